//! The part of Python's pickle that weight files are written in: data, and names of what would be called. Nothing is called.

use std::collections::BTreeMap;

/// Most objects of one pickle.
const MOST: usize = 1 << 20;

/// Where an object lies in [`Objects`].
pub(super) type Place = usize;

/// An object that a pickle describes. Parts are places, so that objects may be shared and no depth is too deep.
#[derive(Debug)]
pub(super) enum Object {
    Int(i64),
    Text(String),
    Tuple(Vec<Place>),
    List(Vec<Place>),
    Dict(Vec<(Place, Place)>),
    /// `module.name`.
    Global(String),
    /// What a call of the first with the second would give.
    Call(Place, Place),
    /// What the file keeps elsewhere, by its identity.
    Elsewhere(Place),
    /// None, a truth value or a fraction: nothing that weights need.
    Other,
}

/// All objects of a pickle.
#[derive(Debug, Default)]
pub(super) struct Objects(Vec<Object>);

impl Objects {
    pub(super) fn get(&self, place: Place) -> &Object {
        self.0.get(place).unwrap_or(&Object::Other)
    }

    pub(super) fn text(&self, place: Place) -> Option<&str> {
        match self.get(place) {
            Object::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn number(&self, place: Place) -> Option<usize> {
        match self.get(place) {
            Object::Int(number) => usize::try_from(*number).ok(),
            _ => None,
        }
    }

    pub(super) fn tuple(&self, place: Place) -> Option<&[Place]> {
        match self.get(place) {
            Object::Tuple(parts) | Object::List(parts) => Some(parts),
            _ => None,
        }
    }

    pub(super) fn numbers(&self, place: Place) -> Option<Vec<usize>> {
        self.tuple(place)?.iter().map(|part| self.number(*part)).collect()
    }

    /// Identities of what the file keeps elsewhere.
    pub(super) fn elsewhere(&self) -> impl Iterator<Item = Place> {
        self.0.iter().filter_map(|object| match object {
            Object::Elsewhere(identity) => Some(*identity),
            _ => None,
        })
    }

    fn add(&mut self, object: Object) -> Result<Place, String> {
        if self.0.len() == MOST {
            return Err(format!("more than {MOST} objects"));
        }
        self.0.push(object);
        Ok(self.0.len() - 1)
    }
}

/// Reads one pickle from the front of `bytes`. Returns its object, and moves `bytes` behind it.
///
/// # Errors
/// What is wrong, without the file's name.
pub(super) fn read(bytes: &mut &[u8]) -> Result<(Objects, Place), String> {
    let mut machine = Machine { bytes, ..Machine::default() };
    while !machine.step()? {
        if machine.stack.len().max(machine.marks.len()) > MOST {
            return Err(format!("more than {MOST} objects at once"));
        }
    }
    let last = machine.pop()?;
    *bytes = machine.bytes;
    Ok((machine.objects, last))
}

#[derive(Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    objects: Objects,
    stack: Vec<Place>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Place>,
}

impl<'a> Machine<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, left) = self.bytes.split_at_checked(count).ok_or("a pickle that is cut short")?;
        self.bytes = left;
        Ok(taken)
    }

    /// An unsigned number of up to eight bytes, the lowest first.
    fn unsigned(&mut self, bytes: usize) -> Result<u64, String> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
    }

    fn memo_index(&mut self, bytes: usize) -> Result<u32, String> {
        u32::try_from(self.unsigned(bytes)?).map_err(|error| error.to_string())
    }

    fn text(&mut self, length_bytes: usize) -> Result<Object, String> {
        let length = usize::try_from(self.unsigned(length_bytes)?).map_err(|error| error.to_string())?;
        Ok(Object::Text(String::from_utf8_lossy(self.take(length)?).into_owned()))
    }

    fn line(&mut self) -> Result<String, String> {
        let end = self.bytes.iter().position(|byte| *byte == b'\n').ok_or("a pickle that is cut short")?;
        let line = self.take(end + 1)?;
        Ok(String::from_utf8_lossy(&line[..end]).trim_end_matches('\r').to_owned())
    }

    fn push(&mut self, object: Object) -> Result<(), String> {
        let place = self.objects.add(object)?;
        self.stack.push(place);
        Ok(())
    }

    fn pop(&mut self) -> Result<Place, String> {
        if self.marks.last().is_some_and(|mark| *mark >= self.stack.len()) {
            return Err("a mark in place of an object".to_owned());
        }
        self.stack.pop().ok_or_else(|| "an object that is not there".to_owned())
    }

    fn since_mark(&mut self) -> Result<Vec<Place>, String> {
        let mark = self.marks.pop().ok_or("a mark that is not there")?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn last_tuple(&mut self, count: usize) -> Result<(), String> {
        let mut parts = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        parts.reverse();
        self.push(Object::Tuple(parts))
    }

    /// Adds keys and values, one after the other, to the dictionary on top.
    fn set(&mut self, items: &[Place]) -> Result<(), String> {
        let top = *self.stack.last().ok_or("an object that is not there")?;
        match &mut self.objects.0[top] {
            Object::Dict(entries) => entries.extend(items.chunks_exact(2).map(|item| (item[0], item[1]))),
            _ => return Err("keys for what is no dictionary".to_owned()),
        }
        Ok(())
    }

    fn append(&mut self, items: &[Place]) -> Result<(), String> {
        let top = *self.stack.last().ok_or("an object that is not there")?;
        match &mut self.objects.0[top] {
            Object::List(entries) => entries.extend(items),
            _ => return Err("entries for what is no list".to_owned()),
        }
        Ok(())
    }

    fn call(&mut self) -> Result<(), String> {
        let (arguments, callable) = (self.pop()?, self.pop()?);
        let dictionary =
            matches!(self.objects.get(callable), Object::Global(name) if name == "collections.OrderedDict");
        self.push(if dictionary { Object::Dict(Vec::new()) } else { Object::Call(callable, arguments) })
    }

    /// Works one instruction; true after the last.
    fn step(&mut self) -> Result<bool, String> {
        match self.take(1)?[0] {
            0x80 => drop(self.take(1)?),
            b'.' => return Ok(true),
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Object::Global(format!("{module}.{name}")))?;
            }
            b'q' => self.remember(1)?,
            b'r' => self.remember(4)?,
            b'h' => self.recall(1)?,
            b'j' => self.recall(4)?,
            b'(' => self.marks.push(self.stack.len()),
            b')' => self.push(Object::Tuple(Vec::new()))?,
            b't' => {
                let parts = self.since_mark()?;
                self.push(Object::Tuple(parts))?;
            }
            count @ 0x85..=0x87 => self.last_tuple(usize::from(count - 0x84))?,
            b']' => self.push(Object::List(Vec::new()))?,
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' => {
                let items = self.since_mark()?;
                self.append(&items)?;
            }
            b'}' => self.push(Object::Dict(Vec::new()))?,
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(&[key, value])?;
            }
            b'u' => {
                let items = self.since_mark()?;
                self.set(&items)?;
            }
            b'R' | 0x81 => self.call()?,
            // Attributes of an object: PyTorch keeps versions of modules there.
            b'b' => drop(self.pop()?),
            b'Q' => {
                let identity = self.pop()?;
                self.push(Object::Elsewhere(identity))?;
            }
            b'N' | 0x88 | 0x89 => self.push(Object::Other)?,
            b'G' => {
                self.take(8)?;
                self.push(Object::Other)?;
            }
            code => self.number_or_text(code)?,
        }
        Ok(false)
    }

    fn number_or_text(&mut self, code: u8) -> Result<(), String> {
        let object = match code {
            b'K' => Object::Int(self.unsigned(1)? as i64),
            b'M' => Object::Int(self.unsigned(2)? as i64),
            b'J' => Object::Int(i64::from(self.unsigned(4)? as u32 as i32)),
            0x8a => {
                let length = self.unsigned(1)? as usize;
                let bytes = self.take(length)?;
                // What takes more than seven bytes is no size of anything here.
                let number = bytes.iter().rev().fold(0, |number, byte| (number << 8) | i64::from(*byte));
                if length > 7 { Object::Other } else { Object::Int(number) }
            }
            b'X' | b'T' => self.text(4)?,
            b'U' => self.text(1)?,
            _ => return Err(format!("a pickle with the instruction {code:#04x}, which no weights need")),
        };
        self.push(object)
    }

    fn remember(&mut self, bytes: usize) -> Result<(), String> {
        let index = self.memo_index(bytes)?;
        let top = *self.stack.last().ok_or("an object that is not there")?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, bytes: usize) -> Result<(), String> {
        let index = self.memo_index(bytes)?;
        let place = *self.memo.get(&index).ok_or("an object that was not remembered")?;
        self.stack.push(place);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dictionaries_tuples_and_shared_objects_are_read() {
        // {"a": (1, 2), "b": the same tuple}, then 7.
        let bytes = b"\x80\x02}(X\x01\0\0\0aK\x01K\x02\x86q\x05X\x01\0\0\0bh\x05u.\x80\x02K\x07.";
        let mut rest = &bytes[..];
        let (objects, top) = read(&mut rest).unwrap();
        let Object::Dict(entries) = objects.get(top) else { panic!("{objects:?}") };
        assert_eq!(entries.iter().map(|entry| objects.text(entry.0).unwrap()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(entries[0].1, entries[1].1);
        assert_eq!(objects.numbers(entries[0].1), Some(vec![1, 2]));
        let (objects, top) = read(&mut rest).unwrap();
        assert_eq!((objects.number(top), rest.len()), (Some(7), 0));
    }

    #[test]
    fn broken_pickles_are_errors() {
        let deep = [b")".as_slice(), &b"\x85".repeat(MOST)].concat();
        for bytes in
            [&b""[..], b"q\x01", b"(.", b"X\xff\xff\xff\xffa", b"}K\x01a.", b"c\n", b"\x97.", b"h\x01.", b"0", &deep]
        {
            assert!(read(&mut &bytes[..]).is_err(), "{:?}", &bytes[..bytes.len().min(9)]);
        }
    }
}
