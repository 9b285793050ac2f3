//! Where a WebSocket's server is in what it writes: between two frames or inside
//! of one (RFC 6455, 5.2). Nothing is checked and no payload is looked at.

/// The most bytes that a frame has before its payload.
const HEADER: usize = 14;

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Frames(Part);

/// Where the next byte belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// To the handshake, or to a frame that has begun.
    Inside,
    /// To a new frame.
    Between,
    /// Nobody knows; or nothing may follow, because it has ended.
    Unknown,
}

#[derive(Debug)]
enum Part {
    /// The response to the handshake, or what there is of it.
    Handshake(Vec<u8>),
    /// The first bytes of a frame.
    Header([u8; HEADER], usize),
    /// How much is left of a frame's payload.
    Payload(u64),
    Lost,
}

/// An answer to a handshake that is longer than this is none.
const LONGEST: usize = 64 * 1024;

/// The opcode of a close frame.
const CLOSE: u8 = 8;

impl Default for Part {
    fn default() -> Self {
        Self::Handshake(Vec::new())
    }
}

impl Frames {
    /// Of what cannot be followed.
    pub(crate) fn lost() -> Self {
        Self(Part::Lost)
    }

    pub(crate) fn place(&self) -> Place {
        match self.0 {
            Part::Header(_, 0) => Place::Between,
            Part::Lost => Place::Unknown,
            Part::Handshake(_) | Part::Header(..) | Part::Payload(_) => Place::Inside,
        }
    }

    /// These bytes were written.
    pub(crate) fn follow(&mut self, mut bytes: &[u8]) {
        while let Some(first) = bytes.first() {
            bytes = match &mut self.0 {
                Part::Lost => return,
                Part::Handshake(head) => {
                    head.push(*first);
                    if head.ends_with(b"\r\n\r\n") || head.len() > LONGEST {
                        self.0 = opening(head);
                    }
                    &bytes[1..]
                }
                Part::Header(header, length) => {
                    header[*length] = *first;
                    *length += 1;
                    if let Some(next) = payload(&header[..*length]) {
                        self.0 = next;
                    }
                    &bytes[1..]
                }
                Part::Payload(left) => {
                    let here = usize::try_from(*left).map_or(bytes.len(), |it| it.min(bytes.len()));
                    *left -= here as u64;
                    if *left == 0 {
                        self.0 = FRAME;
                    }
                    &bytes[here..]
                }
            };
        }
    }
}

/// A new frame.
const FRAME: Part = Part::Header([0; HEADER], 0);

/// What follows the response to a handshake.
fn opening(head: &[u8]) -> Part {
    if head.get(9..12) == Some(b"101") { FRAME } else { Part::Lost }
}

/// What follows these first bytes of a frame; `None` if there are more of them.
fn payload(header: &[u8]) -> Option<Part> {
    let [first, second, rest @ ..] = header else { return None };
    let (masked, short) = (second & 0x80 != 0, second & 0x7f);
    let extended = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    if rest.len() < extended + if masked { 4 } else { 0 } {
        return None;
    }
    let long = rest[..extended].iter().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
    let length = if extended == 0 { u64::from(short) } else { long };
    Some(match (first & 0x0f, length) {
        (CLOSE, _) => Part::Lost,
        (_, 0) => FRAME,
        (_, length) => Part::Payload(length),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDSHAKE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";

    fn frames(lengths: &[usize], masked: bool) -> Vec<Vec<u8>> {
        let frame = |length: &usize| {
            let mask = if masked { 0x80 } else { 0 };
            let mut frame = vec![0x81];
            match *length {
                short @ 0..=125 => frame.push(mask | u8::try_from(short).unwrap()),
                middle @ 126..=0xffff => {
                    frame.push(mask | 126);
                    frame.extend(u16::try_from(middle).unwrap().to_be_bytes());
                }
                long => {
                    frame.push(mask | 127);
                    frame.extend((long as u64).to_be_bytes());
                }
            }
            frame.extend(vec![7; if masked { 4 } else { 0 }]);
            // Looks like a close frame, again and again.
            frame.extend([0x88, 0x00].into_iter().cycle().take(*length));
            frame
        };
        lengths.iter().map(frame).collect()
    }

    #[test]
    fn a_place_between_frames_is_found_however_they_are_written() {
        for masked in [false, true] {
            let all = frames(&[1, 0, 125, 126, 300, 0xffff, 0x10000, 2], masked);
            for piece in [1, 2, 3, 7, 1000, usize::MAX] {
                let mut followed = Frames::default();
                let written = [vec![HANDSHAKE.to_vec()], all.clone()].concat();
                for frame in &written {
                    for (number, bytes) in frame.chunks(piece).enumerate() {
                        assert!(number == 0 || followed.place() == Place::Inside);
                        followed.follow(bytes);
                    }
                    assert_eq!(followed.place(), Place::Between, "of pieces of {piece}");
                }
                let mut at_once = Frames::default();
                at_once.follow(&written.concat());
                assert_eq!(at_once.place(), Place::Between);
            }
        }
    }

    #[test]
    fn nothing_follows_a_close_frame_or_a_refusal() {
        for written in
            [&[HANDSHAKE, &[0x88, 0x00]].concat()[..], b"HTTP/1.1 400 Bad Request\r\n\r\n"]
        {
            let mut frames = Frames::default();
            frames.follow(written);
            assert_eq!(frames.place(), Place::Unknown);
            frames.follow(&[0x81, 0x00]);
            assert_eq!(frames.place(), Place::Unknown);
        }
        assert_eq!(Frames::default().place(), Place::Inside);
    }
}
