use clap::Args;
use serde_json::json;

use super::Global;
use super::failure::Failure;
use super::output::deed;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The member's name or id
    member: String,
    /// Does not even list it any more
    #[arg(long)]
    prune: bool,
}

pub(super) async fn run(global: &Global, arguments: &Arguments) -> Result<(), Failure> {
    let member = global.client().force_leave(&arguments.member, arguments.prune).await?;
    let value = json!({ "name": member.name, "id": member.id, "state": member.state, "pruned": arguments.prune });
    let done = if arguments.prune { "not listed any more" } else { "counts as left" };
    deed(
        global.output,
        &member.name,
        &value,
        &[("member", format!("{} ({})", member.name, member.id)), ("done", done.to_owned())],
    )
}
