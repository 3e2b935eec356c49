//! A look through a footer, or the header of a page, for what the parquet crate would not get past: it takes the booleans
//! of a list that it skips to have no bytes, so a list in a short file may keep it counting for minutes. Neither has such a
//! list in a good file.

/// How deep a footer may be nested: more than the parquet crate follows.
const DEPTH_MAX: usize = 128;

/// Whether the bytes have a list of booleans, by the rules of Thrift's compact protocol. Bytes that break these rules
/// otherwise are not looked through to their end: the parquet crate has an error for them.
pub fn has_list_of_booleans(footer: &[u8]) -> bool {
    let mut look = Look { rest: footer, found: false };
    look.structure(DEPTH_MAX);
    look.found
}

struct Look<'a> {
    rest: &'a [u8],
    found: bool,
}

/// `None` ends the look: at what was looked for, and where the rules are broken.
impl Look<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn pass(&mut self, bytes: u64) -> Option<()> {
        self.rest = self.rest.get(usize::try_from(bytes).ok()?..)?;
        Some(())
    }

    /// A number of seven bits a byte.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn structure(&mut self, depth: usize) -> Option<()> {
        loop {
            let head = self.byte()?;
            let (distance, kind) = (head >> 4, head & 0x0f);
            if kind == 0 {
                return Some(());
            }
            // The number of the field stands by itself when it is far from the last one.
            if distance == 0 {
                self.number()?;
            }
            // A boolean field is its own value.
            if !is_boolean(kind) {
                self.value(kind, depth)?;
            }
        }
    }

    /// A value of a type by its number in the protocol.
    fn value(&mut self, kind: u8, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match kind {
            3 => self.pass(1),
            4..=6 => self.number().map(drop),
            7 => self.pass(8),
            8 => {
                let length = self.number()?;
                self.pass(length)
            }
            9 | 10 => {
                let head = self.byte()?;
                let size = if head >> 4 == 15 { self.number()? } else { u64::from(head >> 4) };
                self.elements(size, &[head & 0x0f], depth)
            }
            11 => match self.number()? {
                0 => Some(()),
                size => {
                    let kinds = self.byte()?;
                    self.elements(size, &[kinds >> 4, kinds & 0x0f], depth)
                }
            },
            12 => self.structure(depth),
            13 => self.pass(16),
            _ => None,
        }
    }

    /// Each takes at least a byte, so a size that is a lie is met at the end.
    fn elements(&mut self, size: u64, kinds: &[u8], depth: usize) -> Option<()> {
        if size > 0 && kinds.iter().any(|kind| is_boolean(*kind)) {
            self.found = true;
            return None;
        }
        for _ in 0..size {
            for kind in kinds {
                self.value(*kind, depth)?;
            }
        }
        Some(())
    }
}

fn is_boolean(kind: u8) -> bool {
    matches!(kind, 1 | 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_booleans_is_found_at_any_depth_and_behind_any_value() {
        // A field each: a number, a text, a list of two structs, of which the second has a list of 2^31 - 1 booleans.
        let mut footer = vec![0x15, 0x80, 0x01, 0x18, 0x02, b'a', b'b', 0x19, 0x2c, 0x11, 0x00];
        footer.extend([0x19, 0xf1, 0xff, 0xff, 0xff, 0xff, 0x07]);
        assert!(has_list_of_booleans(&footer));
        // A map from texts to booleans, and a set.
        assert!(has_list_of_booleans(&[0x1b, 0x01, 0x81, 0x00, 0x01]));
        assert!(has_list_of_booleans(&[0x1a, 0x12]));
    }

    #[test]
    fn broken_bytes_and_plain_values_have_none() {
        for footer in [
            &[][..],
            &[0x00],
            &[0x11, 0x12, 0x00],
            &[0x19, 0x01, 0x00],
            &[0x1b, 0x00, 0x00],
            &[0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x0f],
            &[0x15, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x18, 0xff, 0x7f],
            &[0x1f],
            &[0x1c; 4_096],
        ] {
            assert!(!has_list_of_booleans(footer), "{footer:?}");
        }
    }
}
