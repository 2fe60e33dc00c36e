use proptest::prelude::*;

use super::*;
use crate::SigningKey;

fn seal(ring: &Keyring, text: &[u8]) -> Vec<u8> {
    let mut buffer = text.to_vec();
    ring.seal(ring.in_use(), [7; NONCE_LEN], b"clear", &mut buffer).unwrap();
    buffer
}

fn epochs(ring: &Keyring) -> Vec<u32> {
    ring.epochs().collect()
}

#[test]
fn the_newest_epoch_seals_and_two_are_accepted() {
    let old = Keyring::try_new(vec![(1, [1; 32])]).unwrap();
    let both = Keyring::try_new(vec![(1, [1; 32]), (2, [2; 32])]).unwrap();
    let three = Keyring::try_new(vec![(1, [1; 32]), (3, [3; 32]), (2, [2; 32])]).unwrap();
    assert_eq!(both.in_use(), 2);
    assert_eq!(epochs(&three), [3, 2]);
    let mut sealed = seal(&old, b"hello");
    assert_eq!(both.open(1, [7; NONCE_LEN], b"clear", &mut sealed), Some(&b"hello"[..]));
    let mut sealed = seal(&old, b"hello");
    assert_eq!(three.open(1, [7; NONCE_LEN], b"clear", &mut sealed), None);
}

#[test]
fn any_change_makes_a_sealed_text_unreadable() {
    let ring = Keyring::try_new(vec![(1, [1; 32])]).unwrap();
    let sealed = seal(&ring, b"hello");
    assert_eq!(sealed.len(), 5 + TAG_LEN);
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert_eq!(ring.open(1, [7; NONCE_LEN], b"clear", &mut changed), None);
    }
    assert_eq!(ring.open(1, [8; NONCE_LEN], b"clear", &mut sealed.clone()), None);
    assert_eq!(ring.open(1, [7; NONCE_LEN], b"cleaR", &mut sealed.clone()), None);
    assert_eq!(ring.open(2, [7; NONCE_LEN], b"clear", &mut sealed.clone()), None);
}

#[test]
fn a_keyring_without_a_key_or_with_two_of_one_epoch_is_refused() {
    assert_eq!(Keyring::try_new(vec![]).unwrap_err(), KeyringError::Empty);
    assert_eq!(Keyring::try_new(vec![(1, [1; 32]), (1, [2; 32])]).unwrap_err(), KeyringError::Duplicate(1));
}

#[test]
fn a_keyring_never_shows_its_keys() {
    let ring = Keyring::try_new(vec![(1, [1; 32]), (2, [2; 32])]).unwrap();
    assert_eq!(format!("{ring:?}"), "Keyring([2, 1])");
    let (mut ring, admin) = governed();
    ring.adopt(&admin.rotation()[2], now()).unwrap();
    let shown = format!("{:?}", ring.state());
    assert!(shown.contains("GroupKey { epoch: 2, .. }"), "{shown}");
}

/// An administrator who knows every key that there was.
struct Admin {
    key: SigningKey,
    keys: Vec<v1::GroupKey>,
}

const MESH: &str = "demo.example";

#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

fn group_key(epoch: u32) -> [u8; 32] {
    [u8::try_from(epoch).unwrap(); 32]
}

fn first() -> Statement {
    Statement::of_files(MESH.parse().unwrap(), &[(1, group_key(1))]).unwrap()
}

impl Admin {
    fn new(seed: u8) -> Self {
        let keys = (1..8).map(|epoch| v1::GroupKey { epoch, key: group_key(epoch).to_vec().into() }).collect();
        Self { key: SigningKey::from_seed([seed; 32]).unwrap(), keys }
    }

    fn state(&self, statement: &Statement) -> v1::KeyringState {
        let signed = statement.signed_by(self.key.public_key(), |message| self.key.sign(message));
        let named = |key: &&v1::GroupKey| statement.key(key.epoch).is_some();
        v1::KeyringState { signed: Some(signed), keys: self.keys.iter().filter(named).cloned().collect() }
    }

    /// Install, use, remove.
    fn rotation(&self) -> [v1::KeyringState; 3] {
        let installed = first().install(&group_key(2), 10).unwrap();
        let used = installed.use_epoch(2, 11).unwrap();
        let removed = used.remove(1, 12).unwrap();
        [installed, used, removed].map(|statement| self.state(&statement))
    }
}

fn governed() -> (Keyring, Admin) {
    let admin = Admin::new(1);
    let ring = Keyring::try_new(vec![(1, group_key(1))]).unwrap();
    (ring.governed_by(MESH.parse().unwrap(), vec![[9; 32], admin.key.public_key()]), admin)
}

#[test]
fn a_rotation_installs_uses_and_removes() {
    let (mut ring, admin) = governed();
    let [installed, used, removed] = admin.rotation();
    assert_eq!(ring.adopt(&installed, now()), Ok(true));
    assert_eq!((epochs(&ring), ring.revision()), (vec![1, 2], 1));
    assert_eq!(ring.adopt(&used, now()), Ok(true));
    assert_eq!((epochs(&ring), ring.revision()), (vec![2, 1], 2));
    assert_eq!(ring.state(), v1::KeyringState { keys: used.keys.iter().rev().cloned().collect(), ..used.clone() });
    let at = now();
    assert_eq!(ring.adopt(&removed, at), Ok(true));
    assert_eq!((epochs(&ring), ring.revision()), (vec![2], 3));
    // What others sealed before they heard of it is still read for a while, and no longer.
    assert!(ring.accepts(1));
    ring.expire(at + LINGER.mul_f64(0.99));
    assert!(ring.accepts(1));
    ring.expire(at + LINGER);
    assert!(!ring.accepts(1));
}

#[test]
fn an_older_statement_or_the_same_one_changes_nothing() {
    let (mut ring, admin) = governed();
    let rotation = admin.rotation();
    ring.adopt(&rotation[2], now()).unwrap();
    for state in rotation.iter().chain([&v1::KeyringState::default()]) {
        assert_eq!((ring.check(state), ring.adopt(state, now())), (Ok(false), Ok(false)));
        assert_eq!((epochs(&ring), ring.revision()), (vec![2], 3));
    }
}

#[test]
fn of_two_statements_of_one_revision_all_nodes_keep_the_same() {
    let (mut one, admin) = governed();
    let (mut other, _) = governed();
    let states = [20, 30].map(|at| admin.state(&first().install(&group_key(2), at).unwrap()));
    for state in &states {
        one.adopt(state, now()).unwrap();
    }
    for state in states.iter().rev() {
        other.adopt(state, now()).unwrap();
    }
    assert_eq!((one.state(), one.mark()), (other.state(), other.mark()));
    assert_ne!(one.mark(), 0);
}

#[test]
fn what_no_administrator_of_this_mesh_signed_is_refused() {
    let (mut ring, admin) = governed();
    let good = admin.state(&first().install(&group_key(2), 10).unwrap());
    let signed = good.signed.clone().unwrap();
    let with = |signed| v1::KeyringState { signed: Some(signed), ..good.clone() };
    let stranger = Admin::new(2).state(&first().install(&group_key(2), 10).unwrap());
    let mut changed = signed.clone();
    changed.statement = [&signed.statement[..], &[0x30, 1]].concat().into();
    let renamed = v1::SignedKeyring { administrator: vec![9; 32].into(), ..signed.clone() };
    let elsewhere = Statement { mesh: "other.example".parse().unwrap(), ..first() };
    let long = v1::SignedKeyring { statement: vec![0; 1_025].into(), ..signed };
    let refused = [
        (stranger, StatementError::UnknownAdministrator),
        (with(changed), StatementError::Forged),
        (with(renamed), StatementError::Forged),
        (with(long), StatementError::Malformed("too long")),
        (admin.state(&elsewhere.install(&group_key(2), 10).unwrap()), StatementError::OtherMesh),
    ];
    for (state, error) in refused {
        assert_eq!((ring.check(&state), ring.adopt(&state, now())), (Err(error), Err(error)));
    }
    let mut alone = Keyring::try_new(vec![(1, group_key(1))]).unwrap();
    assert_eq!(alone.adopt(&good, now()), Err(StatementError::UnknownAdministrator));
    assert_eq!((epochs(&ring), epochs(&alone)), (vec![1], vec![1]));
}

#[test]
fn a_statement_that_does_not_hold_together_is_refused_though_an_administrator_signed_it() {
    let (mut ring, admin) = governed();
    let good = first().install(&group_key(2), 10).unwrap();
    let key = good.keys[0];
    let bad = [
        Statement { revision: 0, ..good.clone() },
        Statement { revision: 1 << 48, ..good.clone() },
        Statement { in_use: 3, ..good.clone() },
        Statement { keys: vec![], ..good.clone() },
        Statement { keys: vec![key, key], ..good.clone() },
        Statement { keys: good.keys.iter().rev().copied().collect(), ..good.clone() },
        Statement { keys: vec![key, StatedKey { since: 2, ..good.keys[1] }], ..good.clone() },
        Statement { next_epoch: 2, ..good.clone() },
    ];
    for statement in bad {
        let refused = ring.adopt(&admin.state(&statement), now());
        assert!(matches!(refused, Err(StatementError::Malformed(_))), "{statement:?}: {refused:?}");
    }
    assert_eq!(epochs(&ring), [1]);
}

#[test]
fn a_key_that_is_missing_or_another_one_is_noticed_and_a_known_one_need_not_be_given() {
    let (mut ring, admin) = governed();
    let good = admin.state(&first().install(&group_key(2), 10).unwrap());
    let with = |keys| v1::KeyringState { keys, ..good.clone() };
    let wrong = v1::GroupKey { epoch: 2, key: vec![0xee; 32].into() };
    let short = v1::GroupKey { epoch: 2, key: vec![2; 31].into() };
    assert_eq!(ring.adopt(&with(vec![]), now()), Err(StatementError::MissingKey(2)));
    assert_eq!(ring.adopt(&with(vec![wrong.clone()]), now()), Err(StatementError::WrongKey(2)));
    assert_eq!(ring.adopt(&with(vec![short]), now()), Err(StatementError::WrongKey(2)));
    assert_eq!(epochs(&ring), [1]);
    assert_eq!(ring.adopt(&with(vec![wrong, good.keys[1].clone()]), now()), Ok(true));
    assert_eq!(epochs(&ring), [1, 2]);
}

#[test]
fn who_lags_behind_is_sent_what_it_can_read() {
    let (mut ring, admin) = governed();
    let [installed, used, removed] = admin.rotation();
    let marks = [&installed, &used, &removed].map(|state| {
        let mut at = governed().0;
        at.adopt(state, now()).unwrap();
        at.mark()
    });
    ring.adopt(&installed, now()).unwrap();
    assert_eq!([None, Some(0), Some(marks[0])].map(|mark| ring.epoch_for(mark, now())), [1, 1, 1]);
    ring.adopt(&used, now()).unwrap();
    assert_eq!([None, Some(0), Some(marks[0])].map(|mark| ring.epoch_for(mark, now())), [2, 1, 2]);
    assert_eq!((ring.accepted_at(0), ring.accepted_at(marks[0])), (vec![1], vec![2, 1]));
    let at = now();
    ring.adopt(&removed, at).unwrap();
    assert_eq!([None, Some(0), Some(marks[1])].map(|mark| ring.epoch_for(mark, at)), [2, 1, 2]);
    // Whoever heard of the removal earlier drops it earlier, so it is not sealed with for as long as it is read.
    let soon = at + SEALED_FOR.mul_f64(0.99);
    assert_eq!([None, Some(0), Some(marks[1])].map(|mark| ring.epoch_for(mark, soon)), [2, 1, 2]);
    let later = at + SEALED_FOR;
    assert_eq!([None, Some(0), Some(marks[2])].map(|mark| ring.epoch_for(mark, later)), [2, 2, 2]);
    assert!(ring.accepts(1));
}

#[test]
fn each_step_of_a_rotation_is_taken_only_from_where_it_makes_sense() {
    let first = first();
    let installed = first.install(&group_key(2), 10).unwrap();
    assert_eq!((installed.revision, installed.in_use, installed.next_epoch), (1, 1, 3));
    assert_eq!(installed.install(&group_key(3), 10), Err(ChangeError::Full(1, 2)));
    assert_eq!(installed.use_epoch(3, 10), Err(ChangeError::Unknown(3)));
    assert_eq!(installed.remove(1, 10), Err(ChangeError::InUse(1)));
    assert_eq!(installed.remove(3, 10), Err(ChangeError::Unknown(3)));
    // Given up before it was used: its number is not given again.
    let again = installed.remove(2, 11).unwrap().install(&group_key(3), 12).unwrap();
    assert_eq!(again.keys.iter().map(|key| (key.epoch, key.since)).collect::<Vec<_>>(), [(1, 0), (3, 3)]);
    let last = Statement { revision: statement::MAX_REVISION - 1, ..first };
    assert_eq!(last.use_epoch(1, 10), Err(ChangeError::Exhausted));
    let files = Statement::of_files(MESH.parse().unwrap(), &[(5, [5; 32]), (1, [1; 32]), (3, [3; 32])]).unwrap();
    assert_eq!((files.in_use, files.next_epoch, files.keys[0].epoch), (5, 6, 3));
    assert_eq!(Statement::of_files(MESH.parse().unwrap(), &[]), None);
}

proptest! {
    #[test]
    fn arbitrary_statements_never_panic_and_never_count(
        statement in proptest::collection::vec(any::<u8>(), 0..200),
        signature in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let (mut ring, admin) = governed();
        let administrator = admin.key.public_key().to_vec().into();
        let signed = v1::SignedKeyring { statement: statement.into(), administrator, signature: signature.into() };
        let state = v1::KeyringState { signed: Some(signed), keys: admin.keys.clone() };
        prop_assert!(ring.adopt(&state, now()).is_err());
        prop_assert_eq!(ring.revision(), 0);
    }

    /// However statements arrive, and how often, the one that counts is the same.
    #[test]
    fn the_order_of_arrival_does_not_matter(order in proptest::collection::vec(0_usize..6, 1..24)) {
        let (mut ring, admin) = governed();
        let rotation = admin.rotation();
        let rival = admin.state(&first().install(&group_key(2), 99).unwrap());
        let third = first().install(&group_key(2), 10).unwrap().use_epoch(2, 11).unwrap().remove(1, 12).unwrap();
        let third = third.install(&group_key(3), 13).unwrap();
        let all = [&rotation[0], &rotation[1], &rotation[2], &rival, &admin.state(&third), &v1::KeyringState::default()];
        let mut best = governed().0;
        for which in order {
            let higher = ring.adopt(all[which], now()).unwrap();
            let mut single = governed().0;
            single.adopt(all[which], now()).unwrap();
            if single.mark() > best.mark() {
                prop_assert!(higher);
                best = single;
            }
            prop_assert_eq!((ring.mark(), epochs(&ring)), (best.mark(), epochs(&best)));
        }
    }
}
