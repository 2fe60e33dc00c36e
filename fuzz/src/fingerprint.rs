//! Numbers that stand for what a target answered.

/// FNV-1a: small, and the same everywhere.
pub(crate) fn of(bytes: &[u8]) -> String {
    format!("{:016x}", hash(bytes))
}

pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// An answer without its numbers and what holds numbers, such as addresses: two that differ in those alone are one.
pub(crate) fn of_answer(answer: &str) -> u64 {
    let plain = |word: &&str| word.chars().all(|c| c.is_ascii_alphabetic() || "()'\",._-{}[]".contains(c));
    let words: Vec<&str> = answer.split_whitespace().filter(plain).collect();
    hash(words.join(" ").as_bytes())
}

/// About how many, as a letter: counts that are near one another are one.
pub(crate) fn letter(count: usize) -> char {
    let bits = usize::BITS - count.leading_zeros();
    char::from_digit(10 + bits.min(25), 36).unwrap_or('z')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_differ_in_numbers_and_names_alone_are_one() {
        assert_eq!(of_answer("a value of 12 bytes"), of_answer("a value of 4 bytes"));
        assert_eq!(of_answer("not at 10.0.0.1:7 here"), of_answer("not at [fd00::face]:7 here"));
        assert_ne!(of_answer("too large"), of_answer("too small"));
        assert_eq!((letter(0), letter(1), letter(5), letter(7)), ('a', 'b', 'd', 'd'));
    }
}
