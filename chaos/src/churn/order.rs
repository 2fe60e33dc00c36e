//! What a request asks of the service, written in its path, and the bodies that belong to it.

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;

/// What the service is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Answer, with a length.
    Whole,
    /// Answer in pieces, with trailers.
    Pieces,
    /// Answer a moment later.
    Late,
    /// Send interim answers first.
    Interim,
    /// Answer without a body.
    Empty,
    /// Answer, and say that the connection ends.
    Close,
    /// Answer, and hang up without having said so.
    Vanish,
    /// Answer before the request's body was read, and read it then.
    Early,
    /// Answer before the request's body was read, and never read it.
    EarlyClose,
    /// Reset within the answer.
    Reset,
    /// Hang up within the answer.
    Cut,
    /// Hang up without an answer.
    Silent,
    /// Refuse the request unseen (HTTP/2).
    Refuse,
}

use Act::{Close, Cut, Early, EarlyClose, Empty, Interim, Late, Pieces, Refuse, Reset, Silent, Vanish, Whole};

const ACTS: [(Act, &str, u32); 13] = [
    (Whole, "whole", 46),
    (Pieces, "pieces", 18),
    (Late, "late", 5),
    (Interim, "interim", 4),
    (Empty, "empty", 4),
    (Close, "close", 4),
    (Vanish, "vanish", 4),
    (Early, "early", 3),
    (EarlyClose, "early-close", 2),
    (Reset, "reset", 3),
    (Cut, "cut", 3),
    (Silent, "silent", 2),
    (Refuse, "refuse", 2),
];

impl Act {
    fn draw(rng: &mut StdRng) -> Self {
        let mut at = rng.random_range(0..100);
        for (act, _, share) in ACTS {
            if at < share {
                return act;
            }
            at -= share;
        }
        Whole
    }

    /// Does the service serve the request as it should?
    pub(super) const fn is_sound(self) -> bool {
        matches!(self, Whole | Pieces | Late | Interim | Empty | Close)
    }
}

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Order {
    /// No other request has it.
    pub(super) nonce: u64,
    pub(super) act: Act,
    /// Bytes of the answer's body.
    pub(super) down: usize,
    /// Bytes of the request's body.
    pub(super) up: usize,
}

impl Order {
    /// A request; with a body if it is said so.
    pub(super) fn draw(rng: &mut StdRng, with_body: bool) -> Self {
        let act = Act::draw(rng);
        let up = if with_body { size(rng) } else { 0 };
        Self { nonce: rng.random(), act, down: size(rng), up }
    }

    pub(super) fn path(&self) -> String {
        let name = ACTS.iter().find(|(act, ..)| *act == self.act).map_or("whole", |(_, name, _)| name);
        format!("/c/{:016x}/{name}/{}/{}", self.nonce, self.down, self.up)
    }

    pub(super) fn of_path(path: &str) -> Option<Self> {
        let mut parts = path.strip_prefix("/c/")?.split('/');
        let nonce = u64::from_str_radix(parts.next()?, 16).ok()?;
        let name = parts.next()?;
        let act = ACTS.iter().find(|(_, known, _)| *known == name)?.0;
        let (down, up) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        parts.next().is_none().then_some(Self { nonce, act, down, up })
    }

    /// As it stands in a field.
    pub(super) fn name(&self) -> String {
        format!("{:016x}", self.nonce)
    }

    /// The body of the answer.
    pub(super) fn answer(&self) -> Bytes {
        body(self.nonce, self.down)
    }

    /// The body of the request.
    pub(super) fn request(&self) -> Bytes {
        body(self.nonce, self.up)
    }
}

/// From 1 byte to 200 KiB, most of them small.
fn size(rng: &mut StdRng) -> usize {
    match rng.random_range(0..100) {
        0..80 => rng.random_range(1..2_000),
        80..97 => rng.random_range(2_000..20_000),
        _ => rng.random_range(20_000..200_000),
    }
}

/// The nonce over and over: each byte tells whose it is.
pub(super) fn body(nonce: u64, len: usize) -> Bytes {
    let unit = format!("{nonce:016x};");
    unit.into_bytes().into_iter().cycle().take(len).collect::<Vec<u8>>().into()
}

/// Follows a body as it comes.
#[derive(Debug)]
pub(super) struct Follow {
    unit: Vec<u8>,
    pub(super) seen: usize,
}

impl Follow {
    pub(super) fn new(nonce: u64) -> Self {
        Self { unit: format!("{nonce:016x};").into_bytes(), seen: 0 }
    }

    /// Is what comes now of the right nonce, and at its place?
    pub(super) fn take(&mut self, bytes: &[u8]) -> bool {
        let place = self.seen % self.unit.len();
        self.seen += bytes.len();
        bytes.iter().eq(self.unit.iter().cycle().skip(place).take(bytes.len()))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn an_order_is_read_as_it_was_written() {
        let mut rng = StdRng::seed_from_u64(7);
        for n in 0..1_000 {
            let order = Order::draw(&mut rng, n % 2 == 0);
            assert_eq!(Order::of_path(&order.path()), Some(order));
        }
        assert_eq!(ACTS.iter().map(|(.., share)| share).sum::<u32>(), 100);
        assert_eq!(Order::of_path("/c/xyz/whole/1/1"), None);
    }

    #[test]
    fn a_body_of_another_nonce_or_at_another_place_is_known() {
        let text = body(1, 100);
        let mut follow = Follow::new(1);
        assert!(follow.take(&text[..3]) && follow.take(&text[3..50]) && follow.take(&text[50..]));
        assert!(!Follow::new(2).take(&text));
        assert!(!Follow::new(1).take(&text[1..]));
    }
}
