use std::collections::BTreeSet;
use std::fs;

use proptest::prelude::*;

use super::*;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn names(text: &[&str]) -> BTreeSet<ServiceName> {
    text.iter().map(|name| name.parse().unwrap()).collect()
}

fn numbered(count: usize) -> BTreeSet<ServiceName> {
    (0..count).map(|n| format!("s{n}").parse().unwrap()).collect()
}

#[test]
fn two_nodes_that_never_met_give_a_service_the_same_address() {
    let (one, other) = (VipTable::in_memory(VipRange::default()), VipTable::in_memory(VipRange::default()));
    one.observe(&names(&["orders", "stock", "web.shop"]), at(0));
    other.observe(&names(&["orders"]), at(5));
    let orders = "orders".parse().unwrap();
    assert!(one.vip_of(&orders).is_some());
    assert_eq!(one.vip_of(&orders), other.vip_of(&orders));
    assert_eq!(one.service_of(one.vip_of(&orders).unwrap()), Some(orders));
}

#[test]
fn the_place_of_a_name_is_the_same_in_every_release() {
    let table = VipTable::in_memory(VipRange::default());
    table.observe(&names(&["orders", "orders.shop"]), at(0));
    let placed: Vec<String> = table.entries().iter().map(|(name, vip)| format!("{name} {vip}")).collect();
    assert_eq!(placed, ["orders 127.77.180.59", "orders.shop 127.77.71.166"]);
}

#[test]
fn a_service_that_is_gone_keeps_its_address_and_resolves_for_a_day() {
    let table = VipTable::in_memory(VipRange::default());
    let orders = "orders".parse().unwrap();
    table.observe(&names(&["orders"]), at(100));
    let vip = table.vip_of(&orders);
    assert_eq!(table.observe(&names(&[]), at(200)), Observed::default());
    assert_eq!(table.resolve(&orders, at(200 + 86_399)), vip);
    assert_eq!(table.resolve(&orders, at(200 + 86_400)), None);
    assert_eq!(table.vip_of(&orders), vip);
    table.observe(&names(&["orders"]), at(500_000));
    assert_eq!(table.resolve(&orders, at(900_000)), vip);
}

#[test]
fn addresses_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vips.json");
    let table = VipTable::open(VipRange::default(), path.clone());
    table.observe(&numbered(50), at(1));
    table.observe(&numbered(40), at(2));
    table.persist().unwrap();
    let again = VipTable::open(VipRange::default(), path);
    assert_eq!(again.entries(), table.entries());
    assert_eq!(again.resolve(&"s49".parse().unwrap(), at(2 + 86_400)), None);
    assert_eq!(again.resolve(&"s1".parse().unwrap(), at(2 + 86_400)), table.vip_of(&"s1".parse().unwrap()));
}

#[test]
fn a_damaged_file_or_one_of_another_range_is_left_behind() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vips.json");
    fs::write(&path, b"{\"range\":").unwrap();
    assert!(VipTable::open(VipRange::default(), path.clone()).is_empty());
    let table = VipTable::open(VipRange::default(), path.clone());
    table.observe(&names(&["orders"]), at(1));
    table.persist().unwrap();
    let other = VipRange::try_new("127.90.0.0/24".parse().unwrap()).unwrap();
    assert!(VipTable::open(other, path.clone()).is_empty());
    fs::write(
        &path,
        br#"{"range":"127.77.0.0/16","services":{"a":{"address":"127.77.0.9"},"b":{"address":"127.77.0.9"},"c":{"address":"127.77.0.53"}}}"#,
    )
    .unwrap();
    assert_eq!(
        VipTable::open(VipRange::default(), path).entries(),
        [("a".parse().unwrap(), "127.77.0.9".parse().unwrap())]
    );
}

#[test]
fn a_full_range_refuses_new_services_until_a_known_one_is_gone() {
    let range = VipRange::try_new("127.90.0.0/26".parse().unwrap()).unwrap();
    let table = VipTable::in_memory(range);
    assert_eq!(table.observe(&numbered(62), at(1)).refused, 2);
    assert_eq!(table.len(), range.capacity());
    let known: BTreeSet<_> = table.entries().into_iter().map(|(name, _)| name).skip(1).collect();
    table.observe(&known, at(2));
    let mut grown = known.clone();
    grown.insert("late".parse().unwrap());
    assert_eq!(table.observe(&grown, at(3)).added.len(), 1);
    assert_eq!(table.observe(&numbered(70), at(4)).refused, 10);
}

#[tokio::test(start_paused = true)]
async fn a_change_reaches_the_disk_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vips.json");
    let table = Arc::new(VipTable::open(VipRange::default(), path.clone()));
    let keeper = tokio::spawn(Arc::clone(&table).keep_persisted());
    table.observe(&names(&["orders"]), at(1));
    tokio::time::timeout(Duration::from_secs(10), async {
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the file appears");
    keeper.abort();
}

proptest! {
    #[test]
    fn no_two_services_ever_share_an_address_and_none_moves(
        steps in prop::collection::vec(prop::collection::btree_set(0_usize..90, 0..50), 1..20)
    ) {
        let range = VipRange::try_new("127.90.0.0/25".parse().unwrap()).unwrap();
        let table = VipTable::in_memory(range);
        let mut placed: BTreeMap<ServiceName, Ipv4Addr> = BTreeMap::new();
        for (step, numbers) in steps.iter().enumerate() {
            let known: BTreeSet<ServiceName> = numbers.iter().map(|n| format!("s{n}").parse().unwrap()).collect();
            prop_assert_eq!(table.observe(&known, at(step as u64)).refused, 0);
            for (name, vip) in table.entries() {
                prop_assert!(range.is_assignable(vip));
                prop_assert_eq!(*placed.entry(name.clone()).or_insert(vip), vip);
                prop_assert_eq!(table.service_of(vip), Some(name));
            }
            let distinct: BTreeSet<_> = placed.values().collect();
            prop_assert_eq!(distinct.len(), placed.len());
        }
    }
}
