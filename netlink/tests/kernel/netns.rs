//! Namespaces: entered by threads of their own, held, bound to paths.

use netlink::{Namespace, Netlink, NewLink, NewLinkKind, Op};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::world::{apply, in_new_netns};

#[test]
fn work_runs_inside_and_the_caller_stays_where_it_was() {
    in_new_netns(|| {
        let here = Namespace::current().unwrap();
        let other = Namespace::create().unwrap();
        assert_ne!(here, other);
        assert_eq!(other.run(|| Namespace::current().unwrap()).unwrap(), other);
        assert_eq!(Namespace::current().unwrap(), here);
    });
}

#[test]
fn a_connection_stays_in_its_namespace() {
    in_new_netns(|| {
        let other = Namespace::create().unwrap();
        let mut there = other.netlink().unwrap();
        apply(&mut there, &[Op::CreateLink(NewLink::new("only-there", NewLinkKind::Bridge))]);
        assert!(there.link("only-there").unwrap().is_some());
        assert!(Netlink::open().unwrap().link("only-there").unwrap().is_none());
        let again = other.run(|| Netlink::open().unwrap().link("only-there").unwrap()).unwrap();
        assert!(again.is_some());
    });
}

#[test]
fn a_panic_inside_reaches_the_caller() {
    in_new_netns(|| {
        let namespace = Namespace::create().unwrap();
        let result = std::panic::catch_unwind(|| namespace.run(|| panic!("inside")));
        assert_eq!(result.unwrap_err().downcast_ref::<&str>(), Some(&"inside"));
    });
}

#[test]
fn a_path_keeps_a_namespace_until_it_is_removed() {
    in_new_netns(|| {
        let none = None::<&str>;
        // Our own mounts, so that nothing of this is seen outside.
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNS) {
            return skip::skip(format!("no mount namespace: {error}"));
        }
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node-1");
        let made = Namespace::create_at(&path).unwrap();
        assert_eq!(Namespace::open(&path).unwrap(), made);
        let error = Namespace::create_at(&path).unwrap_err();
        assert!(error.to_string().contains("node-1"), "{error}");
        Namespace::remove(&path).unwrap();
        assert!(!path.exists());
        let error = Namespace::open(&path).unwrap_err();
        assert!(error.to_string().starts_with("cannot open network namespace /"), "{error}");
    });
}
