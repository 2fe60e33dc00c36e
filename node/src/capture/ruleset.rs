use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde::Serialize;
use serde_json::Value;

use super::CaptureConfig;
use super::selection::{self, Standing};

/// Our own table: nothing else in the host's firewall is touched.
const FAMILY: &str = "ip";
const TABLE: &str = "starling";
const CHAIN: &str = "vips";

/// `NF_IP_PRI_NAT_DST`, where other redirects of local traffic sit too.
const PRIORITY: i32 = -100;

/// Why nftables did not take or show a table.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// There is no program `nft`.
    #[error("the program '{}' is missing: install the package nftables", .0.display())]
    Missing(PathBuf),
    /// It takes root or `CAP_NET_ADMIN`.
    #[error("nftables refuses: {0}; run this as root")]
    NoPrivilege(String),
    /// It said something else.
    #[error("nft failed: {0}")]
    Failed(String),
    /// It could not be run at all.
    #[error("nft could not be run")]
    Run(#[from] io::Error),
}

/// A document of libnftables-json(5): commands that take effect together or not at all.
#[derive(Serialize)]
struct Document {
    nftables: Vec<Verb>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Verb {
    Add(Object),
    Delete(Object),
    /// Of the other table, whose rules depend on what was chosen.
    #[serde(untagged)]
    Other(Value),
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Object {
    Table(Table),
    Chain(Chain),
    Rule(Rule),
}

#[derive(Serialize)]
struct Table {
    family: &'static str,
    name: &'static str,
}

#[derive(Serialize)]
struct Chain {
    family: &'static str,
    table: &'static str,
    name: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    hook: &'static str,
    prio: i32,
    policy: &'static str,
}

#[derive(Serialize)]
struct Rule {
    family: &'static str,
    table: &'static str,
    chain: &'static str,
    expr: Vec<Expression>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Expression {
    Match(Match),
    Redirect { port: u16 },
}

#[derive(Serialize)]
struct Match {
    op: &'static str,
    left: Field,
    right: Operand,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Field {
    Payload { protocol: &'static str, field: &'static str },
    Meta { key: &'static str },
}

#[derive(Serialize)]
#[serde(untagged)]
enum Operand {
    Number(u16),
    Word(&'static str),
    Address(Ipv4Addr),
    Prefix { prefix: Prefix },
}

#[derive(Serialize)]
struct Prefix {
    addr: Ipv4Addr,
    len: u8,
}

/// Puts our tables in, in place of older ones: in one step, so that no connection slips between them.
pub(super) fn load(nft: &Path, config: &CaptureConfig) -> Result<(), NftError> {
    run(nft, &document(config))
}

/// Takes our tables out; nothing happens where there is none.
pub(super) fn unload(nft: &Path) -> Result<(), NftError> {
    // Deleting what does not exist is an error; adding what exists is none.
    let mut commands = vec![Verb::Add(table()), Verb::Delete(table())];
    commands.extend(selection::removal().map(Verb::Other));
    run(nft, &Document { nftables: commands })
}

/// Is our redirect of the VIPs there, and what else of ours?
pub(super) fn standing(nft: &Path) -> Result<(bool, Standing), NftError> {
    let output = spawn(nft, &["-j", "list", "ruleset"], &[])?;
    let ruleset: Value = serde_json::from_slice(&output.stdout).map_err(|error| NftError::Failed(error.to_string()))?;
    Ok((has_redirect(&ruleset), Standing::of(&ruleset)))
}

/// What `nft -j -f -` would be given.
pub(super) fn text(config: &CaptureConfig) -> String {
    serde_json::to_string_pretty(&document(config)).unwrap_or_default()
}

fn has_redirect(ruleset: &Value) -> bool {
    let objects = ruleset["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
    objects.iter().map(|object| &object["rule"]).any(|rule| {
        let redirects = || rule["expr"].as_array().is_some_and(|all| all.iter().any(|one| !one["redirect"].is_null()));
        rule["family"] == FAMILY && rule["table"] == TABLE && rule["chain"] == CHAIN && redirects()
    })
}

fn document(config: &CaptureConfig) -> Document {
    let range = config.range.net();
    let dns = || Operand::Address(config.range.dns_address());
    let vips = Operand::Prefix { prefix: Prefix { addr: range.network(), len: range.prefix_len() } };
    let rules = [
        rule([to(dns()), port("udp"), Expression::Redirect { port: config.dns.port() }]),
        rule([to(dns()), port("tcp"), Expression::Redirect { port: config.dns.port() }]),
        rule([to(vips), is_tcp(), Expression::Redirect { port: config.listen.port() }]),
    ];
    let mut commands = vec![Verb::Add(table()), Verb::Delete(table()), Verb::Add(table()), Verb::Add(chain())];
    commands.extend(rules.map(Verb::Add));
    commands.extend(config.selection.commands(config.listen.port()).into_iter().map(Verb::Other));
    Document { nftables: commands }
}

const fn table() -> Object {
    Object::Table(Table { family: FAMILY, name: TABLE })
}

const fn chain() -> Object {
    Object::Chain(Chain {
        family: FAMILY,
        table: TABLE,
        name: CHAIN,
        kind: "nat",
        hook: "output",
        prio: PRIORITY,
        policy: "accept",
    })
}

fn rule(expressions: impl Into<Vec<Expression>>) -> Object {
    Object::Rule(Rule { family: FAMILY, table: TABLE, chain: CHAIN, expr: expressions.into() })
}

const fn to(destination: Operand) -> Expression {
    let left = Field::Payload { protocol: "ip", field: "daddr" };
    Expression::Match(Match { op: "==", left, right: destination })
}

const fn port(protocol: &'static str) -> Expression {
    let left = Field::Payload { protocol, field: "dport" };
    Expression::Match(Match { op: "==", left, right: Operand::Number(53) })
}

const fn is_tcp() -> Expression {
    Expression::Match(Match { op: "==", left: Field::Meta { key: "l4proto" }, right: Operand::Word("tcp") })
}

fn run(nft: &Path, document: &Document) -> Result<(), NftError> {
    let text = serde_json::to_vec(document).map_err(|error| NftError::Failed(error.to_string()))?;
    spawn(nft, &["-j", "-f", "-"], &text).map(drop)
}

fn spawn(nft: &Path, arguments: &[&str], input: &[u8]) -> Result<Output, NftError> {
    let spawned =
        Command::new(nft).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => NftError::Missing(nft.to_owned()),
        _ => NftError::Run(error),
    })?;
    // Dropped at once, so that nft sees the end of its input; that it hung up early shows in its exit code.
    let _sent = child.stdin.take().map(|mut stdin| stdin.write_all(input));
    let output = child.wait_with_output()?;
    if output.status.success() { Ok(output) } else { Err(failure(&output.stderr)) }
}

fn failure(stderr: &[u8]) -> NftError {
    let text = String::from_utf8_lossy(stderr);
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason given").trim().to_owned();
    if text.contains("Operation not permitted") || text.contains("you must be root") {
        NftError::NoPrivilege(line)
    } else {
        NftError::Failed(line)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_document_replaces_our_table_and_redirects_dns_before_the_vips() {
        let document = serde_json::to_value(document(&CaptureConfig::default())).unwrap();
        let commands = document["nftables"].as_array().unwrap();
        let table = json!({"table": {"family": "ip", "name": "starling"}});
        assert_eq!(commands[..3], [json!({"add": table}), json!({"delete": table}), json!({"add": table})]);
        assert_eq!(commands[3]["add"]["chain"]["hook"], "output");
        let daddr = json!({"payload": {"protocol": "ip", "field": "daddr"}});
        assert_eq!(
            commands[4]["add"]["rule"]["expr"],
            json!([
                {"match": {"op": "==", "left": daddr, "right": "127.77.0.53"}},
                {"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": 53}},
                {"redirect": {"port": 5391}},
            ])
        );
        assert_eq!(
            commands[6]["add"]["rule"]["expr"],
            json!([
                {"match": {"op": "==", "left": daddr, "right": {"prefix": {"addr": "127.77.0.0", "len": 16}}}},
                {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "tcp"}},
                {"redirect": {"port": 4150}},
            ])
        );
    }

    #[test]
    fn our_redirect_is_told_from_those_of_others() {
        let rule = |table: &str, expr: Value| json!({"nftables": [{"metainfo": {}}, {"rule": {"family": "ip", "table": table, "chain": "vips", "expr": expr}}]});
        assert!(has_redirect(&rule("starling", json!([{"redirect": {"port": 1}}]))));
        assert!(!has_redirect(&rule("docker", json!([{"redirect": {"port": 1}}]))));
        assert!(!has_redirect(&rule("starling", json!([{"drop": null}]))));
        assert!(!has_redirect(&json!({})));
    }

    #[test]
    fn a_missing_nft_and_a_missing_privilege_are_told_with_a_hint() {
        let missing = unload(Path::new("/nonexistent/nft")).unwrap_err();
        assert!(missing.to_string().contains("package nftables"), "{missing}");
        let denied =
            failure(b"Operation not permitted (you must be root)\nnetlink: Error: cache initialization failed\n");
        assert!(denied.to_string().contains("run this as root"), "{denied}");
        assert!(matches!(failure(b"\n<stdin>: syntax error"), NftError::Failed(text) if text.contains("syntax")));
    }
}
