use starling_transport::ca;
use tempfile::TempDir;

use super::*;

struct Office {
    dir: TempDir,
}

impl Office {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        ca::init(&dir.path().join("ca"), &"demo.example".parse().unwrap()).unwrap();
        Self { dir }
    }

    fn open(&self) -> Administrator {
        Administrator::open(&self.dir.path().join("ca")).unwrap()
    }
}

fn epochs(standing: &Standing) -> (u64, u32, Vec<u32>) {
    let Statement { revision, in_use, keys, .. } = &standing.statement;
    (*revision, *in_use, keys.iter().map(|key| key.epoch).collect())
}

#[test]
fn a_rotation_is_made_step_by_step_and_the_directory_follows() {
    let office = Office::new();
    let administrator = office.open();
    let first = Standing::find(&administrator, None).unwrap();
    assert_eq!(epochs(&first), (0, 1, vec![1]));
    assert!(matches!(first.step(&administrator, Step::Remove(None)), Err(StepError::Only(1))));
    let installed = first.step(&administrator, Step::Install).unwrap();
    assert_eq!(epochs(&installed), (1, 1, vec![1, 2]));
    assert_eq!(administrator.group_keys().unwrap().len(), 2);
    assert!(matches!(installed.step(&administrator, Step::Install), Err(StepError::Change(ChangeError::Full(1, 2)))));
    let used = installed.step(&administrator, Step::Use(None)).unwrap();
    assert_eq!(epochs(&used), (2, 2, vec![1, 2]));
    let removed = used.step(&administrator, Step::Remove(None)).unwrap();
    assert_eq!(epochs(&removed), (3, 2, vec![2]));
    removed.keep(&administrator).unwrap();
    assert_eq!(administrator.group_keys().unwrap().iter().map(|(epoch, _)| *epoch).collect::<Vec<_>>(), [2]);
    drop(administrator);
    assert_eq!(epochs(&Standing::find(&office.open(), None).unwrap()), (3, 2, vec![2]));
}

#[test]
fn a_key_that_was_made_and_not_brought_to_the_mesh_is_used_the_next_time() {
    let office = Office::new();
    let administrator = office.open();
    let first = Standing::find(&administrator, None).unwrap();
    let [one, two] =
        [(); 2].map(|()| first.step(&administrator, Step::Install).unwrap().state(&administrator).unwrap());
    assert_eq!(one.keys, two.keys);
    assert_eq!(one.keys.len(), 2);
}

#[test]
fn what_the_mesh_has_counts_if_it_is_newer_and_an_administrator_signed_it() {
    let office = Office::new();
    let administrator = office.open();
    let first = Standing::find(&administrator, None).unwrap();
    let installed = first.step(&administrator, Step::Install).unwrap();
    let used = installed.step(&administrator, Step::Use(None)).unwrap();
    installed.keep(&administrator).unwrap();
    let found = |of_mesh: &Standing| Standing::find(&administrator, of_mesh.signed.as_ref()).unwrap();
    assert_eq!(found(&used).statement, used.statement);
    used.keep(&administrator).unwrap();
    assert_eq!(found(&installed).statement, used.statement);
    let stranger = Office::new();
    let stranger = stranger.open();
    let forged = Standing::find(&stranger, None).unwrap().step(&stranger, Step::Install).unwrap();
    let refused = Standing::find(&administrator, forged.signed.as_ref()).unwrap_err().to_string();
    assert!(refused.starts_with("the mesh: signed by a key"), "{refused}");
}

#[test]
fn two_do_not_work_in_one_directory_at_once() {
    let office = Office::new();
    let _first = office.open();
    let refused = Administrator::open(&office.dir.path().join("ca")).err().unwrap().to_string();
    assert!(refused.contains("another `starling keyring` works in this directory"), "{refused}");
    let refused = Administrator::open(office.dir.path()).err().unwrap().to_string();
    assert!(refused.contains("no administrator's key is here"), "{refused}");
}
