use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use starling_proto::ServiceName;

use super::{Vip, Vips};
use crate::dns::VipRange;

/// A full table takes some 3 MB.
const LARGEST_FILE: u64 = 8 << 20;

#[derive(Serialize, Deserialize)]
struct Stored {
    range: Ipv4Net,
    services: BTreeMap<ServiceName, Vip>,
}

/// What can be used of the file: at most `most` entries, each with an address of the range and of its own.
pub(super) fn load(path: &Path, range: VipRange, most: usize) -> Vips {
    let stored = match read(path) {
        Ok(Some(stored)) => stored,
        Ok(None) => return Vips::default(),
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "services get new addresses: their file can't be read");
            return Vips::default();
        }
    };
    let mut vips = Vips::default();
    let count = stored.services.len();
    for (name, vip) in stored.services.into_iter().take(most) {
        if range.is_assignable(vip.address) && !vips.of_address.contains_key(&vip.address) {
            vips.insert(name, vip);
        }
    }
    let unusable = count - vips.of_service.len();
    if unusable > 0 {
        tracing::warn!(unusable, path = %path.display(), stored_range = %stored.range, %range, "some services get new addresses");
    }
    vips
}

fn read(path: &Path) -> io::Result<Option<Stored>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(LARGEST_FILE).read_to_end(&mut text)?;
    Ok(Some(serde_json::from_slice(&text)?))
}

pub(super) fn store(path: &Path, range: VipRange, vips: &Vips) -> io::Result<()> {
    let text = serde_json::to_vec(&Stored { range: range.net(), services: vips.of_service.clone() })?;
    let draft = path.with_extension("json.new");
    let mut file = File::create(&draft)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    // The rename itself must be on the disk, too.
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}
