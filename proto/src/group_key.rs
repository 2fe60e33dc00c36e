use std::fmt;

use crate::mesh::v1::GroupKey;

/// Without the key: messages end up in logs.
impl fmt::Debug for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupKey").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_key_is_never_shown() {
        let key = GroupKey { epoch: 7, key: vec![0xab; 32].into() };
        assert_eq!(format!("{key:?}"), "GroupKey { epoch: 7, .. }");
    }
}
