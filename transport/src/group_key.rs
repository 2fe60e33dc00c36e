//! The file of the mesh's group keys: one a line, `<epoch> <64 hexadecimal digits>`, `#` begins a comment.

use std::fmt::Write;

use zeroize::Zeroizing;

/// One group key with its epoch.
pub(crate) type GroupKey = (u32, Zeroizing<[u8; 32]>);

/// The most epochs a file may hold: two are in use at a time, a few more may be prepared or not yet removed.
const MAX_EPOCHS: usize = 16;

/// A file with one fresh key, epoch 1.
pub(crate) fn first() -> Zeroizing<String> {
    let mut key = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(&mut *key).expect("the system's random source works");
    let mut text = Zeroizing::new(String::from("# Group keys of the mesh: epoch and key. Keep them secret.\n1 "));
    key.iter().for_each(|byte| write!(text, "{byte:02x}").expect("text grows"));
    text.push('\n');
    text
}

/// Reads a file of keys, newest epoch first. The error names the line.
pub(crate) fn parse(text: &str) -> Result<Vec<GroupKey>, String> {
    let mut keys: Vec<GroupKey> = Vec::new();
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (epoch, key) = line
            .split_once(' ')
            .and_then(|(epoch, key)| Some((epoch.parse().ok()?, digits(key.trim())?)))
            .ok_or_else(|| format!("line {number} is not '<epoch> <64 hexadecimal digits>'"))?;
        if keys.iter().any(|(known, _)| *known == epoch) {
            return Err(format!("line {number} gives epoch {epoch} a second time"));
        }
        keys.push((epoch, key));
    }
    if keys.is_empty() || keys.len() > MAX_EPOCHS {
        return Err(format!("it holds {} keys, not 1 to {MAX_EPOCHS}", keys.len()));
    }
    keys.sort_by_key(|(epoch, _)| std::cmp::Reverse(*epoch));
    Ok(keys)
}

fn digits(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut key = Zeroizing::new([0; 32]);
    for (byte, index) in key.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[index..index + 2], 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_file_reads_as_epoch_one() {
        let keys = parse(&first()).unwrap();
        assert_eq!(keys.len(), 1);
        assert_eq!(keys[0].0, 1);
        assert_ne!(*keys[0].1, [0; 32]);
    }

    #[test]
    fn the_newest_epoch_comes_first() {
        let (a, b) = ("aa".repeat(32), "bb".repeat(32));
        let keys = parse(&format!("# two\n3 {a}\n\n7 {b}\n")).unwrap();
        assert_eq!(keys.iter().map(|(epoch, key)| (*epoch, key[0])).collect::<Vec<_>>(), [(7, 0xbb), (3, 0xaa)]);
    }

    #[test]
    fn a_bad_line_is_named() {
        let key = "aa".repeat(32);
        for (text, words) in [
            (String::new(), "0 keys"),
            ("1 abc".to_owned(), "line 1 is not"),
            (format!("1 {key}\nx {key}"), "line 2 is not"),
            (format!("1 {key}\n1 {key}"), "line 2 gives epoch 1 a second time"),
            (format!("1 {}", "é".repeat(32)), "line 1 is not"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
