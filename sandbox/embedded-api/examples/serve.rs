//! Serves one cluster on 127.0.0.1 and writes a kubeconfig for it: `cargo run -p embedded-api --example serve -- PORT FILE`.

use std::sync::Arc;

use embedded_api::{Config, MASTERS, Server, Token};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(std::io::stderr).init();
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().as_deref().unwrap_or("6443").parse()?;
    let file = arguments.next().unwrap_or_else(|| "kubeconfig".to_owned());
    let token =
        Token { token: "admin".to_owned(), user: "admin".to_owned(), groups: vec![MASTERS.to_owned()] };
    let server = Arc::new(Server::new(Config { tokens: vec![token], ..Config::named("example") })?);
    let listener = std::net::TcpListener::bind(("127.0.0.1", port))?;
    std::fs::write(&file, server.kubeconfig(&format!("https://{}", listener.local_addr()?), "admin"))?;
    server.serve(vec![listener], async { drop(tokio::signal::ctrl_c().await) }).await?;
    Ok(())
}
