//! What `starling ca` writes, and what is said of files that are wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use starling_transport::{Identity, ca};

use crate::fixture::Mesh;
use crate::hostile;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn an_issued_identity_loads_and_its_secrets_are_its_owners_alone() {
    let mesh = Mesh::new();
    let issued = ca::issue(&mesh.request("web-1", &["web", "shop/*"])).unwrap();
    let out = mesh.path().join("web-1");
    let identity = Identity::load(&out).unwrap();
    assert_eq!((identity.spiffe(), identity.node_id()), (&issued.spiffe, issued.node_id));
    assert_eq!(identity.trust_domain().as_str(), "demo.example");
    assert!(identity.may_run(&"cart.shop".parse().unwrap()) && !identity.may_run(&"cart".parse().unwrap()));
    let ends_in = identity.not_after().duration_since(SystemTime::now()).unwrap();
    assert!(ends_in <= Duration::from_hours(1) && ends_in > Duration::from_secs(3500));
    assert_eq!(identity.group_keys().iter().map(|(epoch, _)| *epoch).collect::<Vec<_>>(), [1]);
    for secret in ["node.key", "gossip.key", "group.keys"] {
        assert_eq!(mode(&out.join(secret)), 0o600, "{secret}");
    }
    for secret in ["ca.key", "admin.key", "group.keys"] {
        assert_eq!(mode(&mesh.authority().join(secret)), 0o600, "{secret}");
    }
    assert_eq!(mode(&out), 0o700);
    let said = format!("{identity:?}");
    assert!(said.contains("web-1") && !said.contains("seed"), "{said}");
}

#[test]
fn nodes_of_one_mesh_share_group_keys_and_nothing_else() {
    let mesh = Mesh::new();
    let (first, second) = (mesh.identity("web-1", &[]), mesh.identity("web-2", &[]));
    assert_eq!(first.group_keys(), second.group_keys());
    assert_ne!(first.gossip_seed(), second.gossip_seed());
    assert_ne!(first.node_id(), second.node_id());
    assert_ne!(first.group_keys(), Mesh::new().identity("web-1", &[]).group_keys());
}

#[test]
fn of_several_authorities_made_at_once_in_one_directory_one_is_made_whole() {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca");
    let authority = &ca;
    let made = std::thread::scope(|scope| {
        let make = move |n: usize| ca::init(authority, &format!("mesh-{n}.example").parse().unwrap()).is_ok();
        let threads: Vec<_> = (0..8).map(|n| scope.spawn(move || make(n))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).filter(|made| *made).count()
    });
    assert_eq!(made, 1);
    let out = dir.path().join("web-1");
    let request = ca::IssueRequest {
        dir: ca.clone(),
        name: "web-1".to_owned(),
        services: vec![],
        ttl: Duration::from_hours(1),
        out: out.clone(),
        force: false,
    };
    ca::issue(&request).unwrap();
    Identity::load(&out).expect("key and certificate of the authority belong together");
    let mut files: Vec<_> = fs::read_dir(&ca).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["admin.key", "admin.pub", "ca.crt", "ca.key", "group.keys"]);
}

#[test]
fn nothing_is_overwritten_unless_forced_and_then_the_node_stays_who_it_is() {
    let mesh = Mesh::new();
    let error = ca::init(&mesh.authority(), &"other.example".parse().unwrap()).unwrap_err();
    assert!(error.to_string().contains("ca.key exists already"), "{error}");
    let mut request = mesh.request("web-1", &["web"]);
    let first = ca::issue(&request).unwrap();
    let error = ca::issue(&request).unwrap_err();
    assert!(error.to_string().contains("node.crt exists already; --force renews it"), "{error}");
    request.force = true;
    request.services = vec!["api".parse().unwrap()];
    assert_eq!(ca::issue(&request).unwrap().node_id, first.node_id);
    let identity = Identity::load(&request.out).unwrap();
    assert!(identity.may_run(&"api".parse().unwrap()) && !identity.may_run(&"web".parse().unwrap()));
}

#[test]
fn a_request_that_makes_no_sense_is_refused_in_words() {
    let mesh = Mesh::new();
    let said = |change: &dyn Fn(&mut ca::IssueRequest)| {
        let mut request = mesh.request("web-1", &["web"]);
        change(&mut request);
        let error = ca::issue(&request).unwrap_err().to_string();
        assert!(!request.out.join("node.crt").exists());
        error
    };
    for (error, words) in [
        (said(&|request| "a/b".clone_into(&mut request.name)), "'a/b' is not a node name"),
        (said(&|request| request.ttl = Duration::ZERO), "--ttl"),
        (said(&|request| request.services = vec!["web".parse().unwrap(); 300]), "256 services, not 300"),
        (said(&|request| request.dir = mesh.path().join("nowhere")), "nowhere/ca.crt"),
        (said(&|request| request.dir = request.out.clone()), "ca.crt"),
    ] {
        assert!(error.contains(words), "{error}");
    }
}

/// What is said when one file of a good identity is changed.
fn said(file: &str, change: impl FnOnce(&Mesh, &Path)) -> String {
    let mesh = Mesh::new();
    mesh.identity("web-1", &["web"]);
    let dir = mesh.path().join("web-1");
    change(&mesh, &dir.join(file));
    let error = Identity::load(&dir).unwrap_err().to_string();
    assert!(error.contains(&format!("web-1/{file}")), "it must name {file}: {error}");
    error
}

#[test]
fn every_bad_file_is_named_with_what_is_wrong_and_what_to_do() {
    let remove = |_: &Mesh, path: &Path| fs::remove_file(path).unwrap();
    let garbage = |_: &Mesh, path: &Path| fs::write(path, "nonsense").unwrap();
    for file in ["node.crt", "node.key", "ca.crt", "gossip.key", "group.keys"] {
        let error = said(file, remove);
        assert!(error.contains("cannot read") && error.contains("starling ca issue"), "{error}");
        let error = said(file, garbage);
        assert!(error.contains("PEM form") || error.contains("line 1"), "{error}");
    }
    let of_another_node = |file: &'static str| {
        said(file, move |mesh, path| {
            mesh.identity("web-2", &[]);
            fs::copy(mesh.path().join("web-2").join(file), path).unwrap();
        })
    };
    let error = of_another_node("node.key");
    assert!(error.contains("does not belong to node.crt") && error.contains("--force"), "{error}");
    let error = said("ca.crt", |_, path| {
        fs::copy(Mesh::of("other.example").authority().join("ca.crt"), path).unwrap();
        fs::write(
            path,
            fs::read_to_string(path).unwrap() + &fs::read_to_string(path.with_file_name("node.crt")).unwrap(),
        )
        .unwrap();
    });
    assert!(error.contains("not a trust domain") || error.contains("roots of two meshes"), "{error}");
}

#[test]
fn a_certificate_that_others_would_refuse_is_refused_at_home() {
    let expired = said("node.crt", |mesh, path| {
        let mut params = hostile::params("spiffe://demo.example/node/web-1");
        params.not_after = (SystemTime::now() - Duration::from_mins(1)).into();
        let (certificate, key) = hostile::pem(&mesh.authority(), &params);
        fs::write(path, certificate).unwrap();
        fs::write(path.with_file_name("node.key"), key).unwrap();
    });
    assert!(expired.contains("the certificate ended 6") && expired.contains("renew"), "{expired}");
    let foreign = said("node.crt", |_, path| {
        fs::copy(Mesh::new().authority().join("ca.crt"), path.with_file_name("ca.crt")).unwrap();
    });
    assert!(foreign.contains("no chain to a root") && foreign.contains("one authority"), "{foreign}");
}
