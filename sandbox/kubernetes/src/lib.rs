//! A real Kubernetes control plane for tests: etcd, kube-apiserver with RBAC and, where asked, kube-controller-manager, as
//! child processes that end with their owner.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use kubernetes::{Binaries, ControlPlane, Options};
//!
//! let plane = ControlPlane::start(&Options::named("east", Binaries::find()?))?;
//! let admin = plane.client().await?;
//! let kubeconfig = plane.kubeconfig_for("jane", &["developers"])?;
//! # Ok(())
//! # }
//! ```
//!
//! A control plane takes some seconds and half a gigabyte: the tests of one test program share one.
//!
//! ```no_run
//! use std::sync::LazyLock;
//! use kubernetes::{Binaries, ControlPlane, Options};
//!
//! /// `None`: it was said that the binaries are missing.
//! static PLANE: LazyLock<Option<ControlPlane>> = LazyLock::new(|| {
//!     let binaries = Binaries::find_or_skip()?;
//!     Some(ControlPlane::start(&Options::named("tests", binaries)).expect("it starts"))
//! });
//! ```
//!
//! etcd listens on a Unix socket in the control plane's directory and on no port. Who is a client has a certificate of the
//! control plane's own CA or a service-account token.

mod binaries;
mod connect;
mod etcd;
mod files;
mod identity;
mod keeper;
mod last_words;
mod options;
mod plane;
mod programs;
mod reaper;

pub use binaries::{Binaries, MissingBinaries, VERSION};
pub use connect::ConnectError;
pub use identity::IdentityError;
pub use last_words::{exit_text, last_lines};
pub use options::Options;
pub use plane::{ControlPlane, Error, Part};
