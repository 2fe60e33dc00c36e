use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::dial::MARK;

/// Our second table: what is chosen beside the VIPs.
pub(super) const FAMILY: &str = "inet";
pub(super) const TABLE: &str = "starling";
/// Holds the families of addresses for which a node answers now. Where it is empty nothing is redirected.
pub(super) const ACTIVE: &str = "active";

/// What is captured beside the VIPs, and which ports are shut to other hosts.
///
/// Of ports and users, both must fit where both are given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// All TCP that leaves the host (or namespace), whatever its port and user.
    pub all: bool,
    /// TCP to these ports.
    pub ports: BTreeSet<u16>,
    /// TCP of these users.
    pub users: BTreeSet<u32>,
    /// TCP of these groups; like users, one of either must fit.
    pub groups: BTreeSet<u32>,
    /// Never TCP to these ports. The mesh's own belong here.
    pub exclude_ports: BTreeSet<u16>,
    /// Never TCP to these addresses.
    pub exclude_nets: Vec<IpNet>,
    /// Never TCP of these users: those that an agent without privilege runs as.
    pub agent_users: BTreeSet<u32>,
    /// TCP of other hosts to these ports is reset: their traffic must come through the mesh.
    pub shut: BTreeSet<u16>,
}

impl Selection {
    /// Is anything captured beside the VIPs?
    pub fn captures(&self) -> bool {
        self.all || !self.ports.is_empty() || !self.users.is_empty() || !self.groups.is_empty()
    }

    /// The commands that put it in force with redirects to this port, in place of whatever was before (libnftables-json).
    pub(super) fn commands(&self, port: u16) -> Vec<Value> {
        let mut commands = removal().to_vec();
        if self.captures() || !self.shut.is_empty() {
            commands.push(json!({"add": table()}));
        }
        if self.captures() {
            commands.push(json!({"add": {"set": {
                "family": FAMILY, "table": TABLE, "name": ACTIVE, "type": "nf_proto", "flags": ["timeout"]
            }}}));
            commands.push(chain("capture", "nat", "output", -100));
            commands.extend(self.redirects(port).into_iter().map(|expressions| rule("capture", &expressions)));
        }
        if !self.shut.is_empty() {
            commands.push(chain("shut", "filter", "input", 0));
            commands.push(rule("shut", &self.shutting()));
        }
        commands
    }

    /// What is let through first, and then what is caught: nothing of the node's own, and nothing that stays on the host.
    fn redirects(&self, port: u16) -> Vec<Vec<Value>> {
        let pass = || json!({"return": null});
        let tcp_port = || json!({"payload": {"protocol": "tcp", "field": "dport"}});
        let mut rules = vec![
            vec![matches("!=", meta("l4proto"), json!("tcp")), pass()],
            vec![matches("==", meta("mark"), json!(MARK)), pass()],
            vec![matches("==", meta("oifname"), json!("lo")), pass()],
        ];
        if !self.agent_users.is_empty() {
            rules.push(vec![one_of(meta("skuid"), &self.agent_users), pass()]);
        }
        if !self.exclude_ports.is_empty() {
            rules.push(vec![one_of(tcp_port(), &self.exclude_ports), pass()]);
        }
        for (protocol, nets) in self.excluded() {
            let address = json!({"payload": {"protocol": protocol, "field": "daddr"}});
            rules.push(vec![matches("==", address, json!({"set": nets})), pass()]);
        }
        let active = matches("==", meta("nfproto"), json!(format!("@{ACTIVE}")));
        // Of what came so far all is TCP, but nft wants to read it here.
        let catch = [active, matches("==", meta("l4proto"), json!("tcp")), json!({"redirect": {"port": port}})];
        let ports = (!self.ports.is_empty() && !self.all).then(|| one_of(tcp_port(), &self.ports));
        let mut owners = Vec::new();
        if !self.all {
            owners.extend((!self.users.is_empty()).then(|| one_of(meta("skuid"), &self.users)));
            owners.extend((!self.groups.is_empty()).then(|| one_of(meta("skgid"), &self.groups)));
        }
        let owners = if owners.is_empty() { vec![None] } else { owners.into_iter().map(Some).collect() };
        rules.extend(owners.into_iter().map(|owner| ports.iter().cloned().chain(owner).chain(catch.clone()).collect()));
        rules
    }

    /// The addresses that are let through, by family.
    fn excluded(&self) -> impl Iterator<Item = (&'static str, Vec<Value>)> {
        let nets = IpNet::aggregate(&self.exclude_nets);
        let prefix = |net: &IpNet| json!({"prefix": {"addr": net.addr(), "len": net.prefix_len()}});
        let of =
            |ipv4: bool| nets.iter().filter(move |net| net.addr().is_ipv4() == ipv4).map(prefix).collect::<Vec<_>>();
        [("ip", of(true)), ("ip6", of(false))].into_iter().filter(|(_, nets)| !nets.is_empty())
    }

    fn shutting(&self) -> Vec<Value> {
        let port = json!({"payload": {"protocol": "tcp", "field": "dport"}});
        // An answer to a connection that this host began from such a port is none of another host's.
        let begun = matches("==", json!({"ct": {"key": "direction"}}), json!("original"));
        let reset = json!({"reject": {"type": "tcp reset"}});
        vec![matches("!=", meta("iifname"), json!("lo")), one_of(port, &self.shut), begun, reset]
    }
}

/// The commands that take it all out; nothing happens where there is nothing.
pub(super) fn removal() -> [Value; 2] {
    // Deleting what does not exist is an error; adding what exists is none.
    [json!({"add": table()}), json!({"delete": table()})]
}

/// What of a selection stands in a rule set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// Are there redirects beside the VIPs'?
    pub captures: bool,
    /// Does a node keep them in force now, for IPv4 or IPv6?
    pub active: bool,
    /// Ports that are shut to other hosts.
    pub shut: BTreeSet<u16>,
}

impl Standing {
    /// Reads what `nft -j list ruleset` says.
    pub(super) fn of(ruleset: &Value) -> Self {
        let objects = ruleset["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
        let ours = |object: &Value| object["family"] == FAMILY && object["table"] == TABLE;
        let mut standing = Self::default();
        for object in objects {
            let (rule, set) = (&object["rule"], &object["set"]);
            if ours(rule) && rule["chain"] == "capture" {
                standing.captures |= expressions(rule).any(|one| !one["redirect"].is_null());
            }
            if ours(rule) && rule["chain"] == "shut" {
                standing.shut.extend(expressions(rule).flat_map(|one| ports(&one["match"])));
            }
            if ours(set) && set["name"] == ACTIVE {
                standing.active |= set["elem"].as_array().is_some_and(|elements| !elements.is_empty());
            }
        }
        standing
    }
}

fn expressions(rule: &Value) -> impl Iterator<Item = &Value> {
    rule["expr"].as_array().into_iter().flatten()
}

/// nft gives a set of one as that one.
fn ports(matched: &Value) -> Vec<u16> {
    if matched["left"]["payload"]["field"] != "dport" {
        return Vec::new();
    }
    let right = &matched["right"];
    let listed = right["set"].as_array().map_or_else(|| std::slice::from_ref(right), Vec::as_slice);
    listed.iter().filter_map(|port| u16::try_from(port.as_u64()?).ok()).collect()
}

fn table() -> Value {
    json!({"table": {"family": FAMILY, "name": TABLE}})
}

fn chain(name: &str, kind: &str, hook: &str, priority: i32) -> Value {
    json!({"add": {"chain": {
        "family": FAMILY, "table": TABLE, "name": name, "type": kind, "hook": hook, "prio": priority, "policy": "accept"
    }}})
}

fn rule(chain: &str, expressions: &[Value]) -> Value {
    json!({"add": {"rule": {"family": FAMILY, "table": TABLE, "chain": chain, "expr": expressions}}})
}

fn meta(key: &str) -> Value {
    json!({"meta": {"key": key}})
}

#[allow(clippy::needless_pass_by_value, reason = "json! takes what it is given by reference")]
fn matches(op: &str, left: Value, right: Value) -> Value {
    json!({"match": {"op": op, "left": left, "right": right}})
}

fn one_of<T: serde::Serialize>(left: Value, right: &BTreeSet<T>) -> Value {
    matches("==", left, json!({"set": right}))
}

/// A network, or one address.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    let one = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>()
        .map(|net| net.trunc())
        .or_else(|_| one())
        .map_err(|_| format!("'{text}' is no network: write 10.0.0.0/8, or one address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(selection: &Selection) -> Vec<Value> {
        let rules = selection.commands(4150).into_iter().map(|command| command["add"]["rule"]["expr"].clone());
        rules.filter(|rule| !rule.is_null()).collect()
    }

    #[test]
    fn nothing_chosen_only_removes_what_was_before() {
        assert_eq!(Selection::default().commands(4150), removal());
        let only_excluded = Selection { exclude_ports: [22].into(), ..Selection::default() };
        assert_eq!(only_excluded.commands(4150), removal());
    }

    #[test]
    fn ports_and_users_must_both_fit_and_a_node_must_answer() {
        let selection = Selection { ports: [5432].into(), users: [7, 8].into(), ..Selection::default() };
        let last = rules(&selection).pop().unwrap();
        assert_eq!(
            last,
            json!([
                {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": {"set": [5432]}}},
                {"match": {"op": "==", "left": {"meta": {"key": "skuid"}}, "right": {"set": [7, 8]}}},
                {"match": {"op": "==", "left": {"meta": {"key": "nfproto"}}, "right": "@active"}},
                {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "tcp"}},
                {"redirect": {"port": 4150}},
            ])
        );
    }

    #[test]
    fn a_user_or_a_group_is_enough_and_all_is_all() {
        let selection = Selection { users: [7].into(), groups: [9].into(), ..Selection::default() };
        let catching = |selection: &Selection| {
            let catches = |rule: &Value| rule.as_array().is_some_and(|all| !all[all.len() - 1]["redirect"].is_null());
            rules(selection).into_iter().filter(catches).collect::<Vec<_>>()
        };
        assert_eq!(catching(&selection).len(), 2);
        let all = catching(&Selection { all: true, ..selection });
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].as_array().unwrap().len(), 3, "no port and no user is asked for");
    }

    #[test]
    fn the_nodes_own_and_what_is_excluded_is_let_through_before_anything_is_caught() {
        let selection = Selection {
            all: true,
            exclude_ports: [22].into(),
            exclude_nets: vec![
                "10.0.0.0/8".parse().unwrap(),
                "10.1.0.0/16".parse().unwrap(),
                "fd00::/8".parse().unwrap(),
            ],
            agent_users: [65_534].into(),
            ..Selection::default()
        };
        let rules = rules(&selection);
        assert_eq!(rules.len(), 8);
        assert!(rules[..7].iter().all(|rule| !rule[1].is_null() && rule[1].get("return").is_some()), "{rules:?}");
        assert_eq!(rules[1][0]["match"]["right"], 0x77);
        assert_eq!(rules[5][0]["match"]["right"]["set"].as_array().unwrap().len(), 1, "one lies within the other");
    }

    #[test]
    fn what_stands_is_read_as_nft_writes_it() {
        let rule = |chain: &str, expr: Value| json!({"rule": {"family": "inet", "table": "starling", "chain": chain, "expr": expr}});
        let dport = |right: Value| json!([{"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": right}}]);
        let set = |elements: Value| json!({"set": {"family": "inet", "table": "starling", "name": "active", "elem": elements}});
        let of = |objects: Vec<Value>| Standing::of(&json!({"nftables": objects}));
        assert_eq!(of(vec![]), Standing::default());
        let standing = of(vec![
            rule("capture", json!([{"redirect": {"port": 1}}])),
            rule("shut", dport(json!(8080))),
            rule("shut", dport(json!({"set": [1, 2]}))),
            set(json!([{"elem": {"val": "ipv4", "timeout": 5}}])),
        ]);
        assert_eq!(standing, Standing { captures: true, active: true, shut: [1, 2, 8080].into() });
    }

    #[test]
    fn a_network_is_one_or_one_address() {
        assert_eq!(network("10.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(network("::1").unwrap().to_string(), "::1/128");
        assert!(network("home").is_err());
    }
}
