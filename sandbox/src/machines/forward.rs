//! From a listener on the host to an API server inside: kube-apiserver cannot take over a listener that is open.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;

/// Takes every connection on to this port of the sandbox's own loopback, for as long as the sandbox lives.
pub(super) fn start(listener: TcpListener, port: u16) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    tokio::spawn(async move {
        loop {
            let Ok((incoming, _)) = listener.accept().await else { continue };
            tokio::spawn(carry(incoming, port));
        }
    });
    Ok(())
}

async fn carry(mut incoming: TcpStream, port: u16) {
    let Ok(mut server) = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await else {
        return;
    };
    // Each end sees that the other closes; what went wrong between them is theirs to tell.
    let _ = copy_bidirectional(&mut incoming, &mut server).await;
}
