//! Frames of HTTP/2, written by hand, for what no library would send (RFC 9113, section 4.1; RFC 7541).

use std::io;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![len[1], len[2], len[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// What a client sends first.
pub(crate) fn hello() -> Vec<u8> {
    hello_with(&[])
}

/// The same with such settings.
pub(crate) fn hello_with(settings: &[u8]) -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(4, 0, 0, settings)[..]].concat()
}

/// The fields of a GET of `/`: method, scheme and path by their index, and an authority.
pub(crate) fn get() -> Vec<u8> {
    vec![0x82, 0x86, 0x84, 0x41, 0x01, b'a']
}

/// Those of a POST.
pub(crate) fn post() -> Vec<u8> {
    vec![0x83, 0x86, 0x84, 0x41, 0x01, b'a']
}

/// A field that is not indexed.
pub(crate) fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    field(0x00, name, value)
}

/// A field that enters the table.
pub(crate) fn indexed_literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    field(0x40, name, value)
}

fn field(first: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut field = vec![first];
    for part in [name, value] {
        let mut left = part.len();
        if left < 0x7f {
            field.push(u8::try_from(left).unwrap());
        } else {
            field.push(0x7f);
            left -= 0x7f;
            while left >= 0x80 {
                field.push(u8::try_from(left & 0x7f).unwrap() | 0x80);
                left >>= 7;
            }
            field.push(u8::try_from(left).unwrap());
        }
        field.extend_from_slice(part);
    }
    field
}

/// Reads frames up to the answer to a PING.
pub(crate) async fn until_pong(stream: &mut TcpStream) -> io::Result<()> {
    loop {
        let mut header = [0; 9];
        stream.read_exact(&mut header).await?;
        let len = usize::from(header[1]) << 8 | usize::from(header[2]);
        stream.read_exact(&mut vec![0; len]).await?;
        if header[3] == 6 && header[4] == 1 {
            return Ok(());
        }
    }
}
