//! Digests: which node the sender knows up to which version.

use super::cursor::Cursor;
use super::{Context, MAX_IDS, ReplicaId, Skipped, WireError};

/// The heartbeat of a node that is not alive: known, and never newer than before.
const STILL: u64 = 1;

pub(super) fn check(
    input: &mut Cursor<'_>,
    output: &mut Vec<u8>,
    context: &Context<'_>,
    skipped: &mut Skipped,
) -> Result<(), WireError> {
    let count = input.u16("the digest")?;
    let count_at = output.len();
    output.extend_from_slice(&[0; 2]);
    let mut kept = 0_u16;
    let mut ids = context.replica.ids();
    let mut previous: Option<ReplicaId> = None;
    for _ in 0..count {
        let id = ReplicaId::read(input)?;
        if previous.is_some_and(|previous| previous >= id) {
            return Err(WireError::DigestOrder);
        }
        previous = Some(id);
        input.u64("a heartbeat")?;
        if input.u64("a collection mark")? != 0 {
            return Err(WireError::Collected);
        }
        let max_version = input.u64("a highest version")?;
        let resident = context.replica.max_version(&id).is_some();
        let alive = id.admitted(context).is_some_and(|(_, alive)| alive);
        // Chitchat makes room for every id in a digest: so only for members that live, and only so many. A former
        // boot that it still holds stays in, or it would send all of that again in each answer.
        if !resident {
            if !alive {
                skipped.unknown += 1;
                continue;
            }
            if ids >= MAX_IDS {
                skipped.full.push(id.node);
                continue;
            }
            ids += 1;
        }
        id.write(output);
        let heartbeat = if alive { context.beat } else { STILL };
        for number in [heartbeat, 0, max_version] {
            output.extend_from_slice(&number.to_le_bytes());
        }
        kept += 1;
    }
    output[count_at..count_at + 2].copy_from_slice(&kept.to_le_bytes());
    Ok(())
}
