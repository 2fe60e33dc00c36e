use std::os::unix::fs::MetadataExt;

use super::*;

const OURS: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 53);

fn host(resolv_conf: Option<&str>, resolved_runs: bool) -> (tempfile::TempDir, ResolverPaths) {
    let root = tempfile::tempdir().unwrap();
    let paths = ResolverPaths {
        resolv_conf: root.path().join("resolv.conf"),
        resolved_runtime: root.path().join("run"),
        resolved_drop_ins: root.path().join("resolved.conf.d"),
        trust_anchors: root.path().join("anchors.d"),
        reload: vec!["touch".into(), root.path().join("reloaded").display().to_string()],
    };
    if let Some(text) = resolv_conf {
        fs::write(&paths.resolv_conf, text).unwrap();
    }
    if resolved_runs {
        fs::create_dir(&paths.resolved_runtime).unwrap();
    }
    (root, paths)
}

#[test]
fn resolv_conf_is_written_in_place_and_restored_to_the_byte() {
    let original = "nameserver 10.0.0.2\nsearch example.com";
    let (_root, paths) = host(Some(original), false);
    let inode = fs::metadata(&paths.resolv_conf).unwrap().ino();
    for _ in 0..2 {
        assert_eq!(paths.install("mesh", OURS).unwrap(), ResolverKind::ResolvConf);
        assert!(paths.is_installed().unwrap());
    }
    let text = fs::read_to_string(&paths.resolv_conf).unwrap();
    assert_eq!(text.matches("nameserver 127.77.0.53").count(), 1, "{text}");
    assert!(text.ends_with(original));
    paths.uninstall().unwrap();
    paths.uninstall().unwrap();
    assert_eq!(fs::read_to_string(&paths.resolv_conf).unwrap(), original);
    assert_eq!(fs::metadata(&paths.resolv_conf).unwrap().ino(), inode);
    assert!(!paths.is_installed().unwrap());
}

#[test]
fn a_resolv_conf_that_did_not_exist_is_gone_again_and_an_empty_one_stays() {
    let (_root, paths) = host(None, false);
    paths.install("mesh", OURS).unwrap();
    paths.install("mesh", OURS).unwrap();
    assert!(paths.is_installed().unwrap());
    paths.uninstall().unwrap();
    assert!(!paths.resolv_conf.exists());
    let (_root, paths) = host(Some(""), false);
    paths.install("mesh", OURS).unwrap();
    paths.uninstall().unwrap();
    assert_eq!(fs::read_to_string(&paths.resolv_conf).unwrap(), "");
}

#[test]
fn systemd_resolved_gets_a_drop_in_for_the_one_domain() {
    let (root, paths) = host(Some("nameserver 127.0.0.53\n"), true);
    assert_eq!(paths.install("mesh", OURS).unwrap(), ResolverKind::SystemdResolved);
    let drop_in = fs::read_to_string(paths.drop_in()).unwrap();
    assert!(drop_in.contains("DNS=127.77.0.53\nDomains=~mesh\n"), "{drop_in}");
    assert_eq!(fs::read_to_string(paths.trust_anchor()).unwrap(), "mesh\n");
    fs::remove_file(root.path().join("reloaded")).expect("it was told");
    paths.install("mesh", OURS).unwrap();
    assert!(!root.path().join("reloaded").exists(), "nothing changed, so it need not be told");
    paths.uninstall().unwrap();
    assert!(root.path().join("reloaded").exists());
    assert!(!paths.drop_in().exists() && !paths.trust_anchor().exists());
    assert_eq!(fs::read_to_string(&paths.resolv_conf).unwrap(), "nameserver 127.0.0.53\n");
}

#[test]
fn systemd_resolved_that_no_program_asks_is_passed_over() {
    let (_root, paths) = host(Some("nameserver 10.0.0.2\n"), true);
    assert_eq!(paths.install("mesh", OURS).unwrap(), ResolverKind::ResolvConf);
}

#[test]
fn a_failure_names_the_file_or_the_command() {
    let (_root, mut paths) = host(Some("nameserver 127.0.0.53\n"), true);
    paths.reload = vec!["/nonexistent/systemctl".into(), "restart".into()];
    let error = paths.install("mesh", OURS).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/systemctl restart"), "{error}");
    let (root, mut paths) = host(None, false);
    paths.resolv_conf = root.path().to_owned();
    let error = paths.install("mesh", OURS).unwrap_err().to_string();
    assert!(error.contains(&root.path().display().to_string()), "{error}");
}
