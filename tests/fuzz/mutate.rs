//! Changes to valid files: of bytes, of numbers in JSON, of the fields of protobuf messages.

/// Random numbers of an execution (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(number: u64) -> Self {
        Self(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number below `end`, which may be 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.next() % end as u64) as usize }
    }

    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// One of `choices`.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// Numbers at which something ends.
const EDGES: [u64; 16] = [
    0,
    1,
    2,
    7,
    127,
    128,
    255,
    256,
    65_535,
    1 << 20,
    50_000,
    i32::MAX as u64,
    u32::MAX as u64,
    1 << 40,
    i64::MAX as u64,
    u64::MAX,
];

/// Changes one to five places between `range.start` and `range.end`.
pub(crate) fn bytes(file: &mut Vec<u8>, range: std::ops::Range<usize>, random: &mut Random) {
    for _ in 0..1 + random.below(5) {
        let (start, end) = (range.start.min(file.len()), range.end.min(file.len()));
        let at = start + random.below(end - start);
        let length = (1 + random.below(16)).min(file.len() - at);
        match random.below(8) {
            0 => file.truncate(at),
            1 => drop(file.drain(at..at + length)),
            2 => {
                let copy = file[at..at + length].to_vec();
                let to = start + random.below(end - start);
                file.splice(to..to, copy);
            }
            3 => {
                let edge = random.pick(&EDGES).to_le_bytes();
                let length = length.min(8);
                file[at..at + length].copy_from_slice(&edge[..length]);
            }
            4 => {
                let edge = random.pick(&EDGES).to_be_bytes();
                let length = length.min(8);
                file[at..at + length].copy_from_slice(&edge[8 - length..]);
            }
            5 if at < file.len() => file[at] = random.pick(&[0, 0x7f, 0x80, 0xff, 0xc1, b'"', b'{', b'[']),
            _ if at < file.len() => file[at] ^= 1 << random.below(8),
            _ => file.push(random.next() as u8),
        }
    }
}

/// Changes one to three places of a JSON text: numbers to edges, words to others, parts taken out, repeated or nested.
pub(crate) fn json(text: &mut String, random: &mut Random) {
    for _ in 0..1 + random.below(3) {
        let tokens = tokens(text);
        let (Some(token), Some(other)) =
            (tokens.get(random.below(tokens.len())), tokens.get(random.below(tokens.len())))
        else {
            return;
        };
        let (token, other) = (token.clone(), text[other.clone()].to_owned());
        let number = text[token.clone()].starts_with(|c: char| c.is_ascii_digit());
        match random.below(7) {
            0..=2 if number => {
                let edges = ["-1", "1e999", "0.5", "-0", "1e-320", "null", "\"1\"", "18446744073709551616"];
                let edge =
                    if random.one_in(2) { random.pick(&EDGES).to_string() } else { random.pick(&edges).to_owned() };
                text.replace_range(token, &edge);
            }
            0 | 1 => text.replace_range(token, &other),
            2 => text.replace_range(token, ""),
            3 => text.insert_str(token.start, &other),
            4 => text.insert_str(
                token.start,
                &random.pick(&["[", "{\"a\":", "\"", "\\u0000", "\u{e9}"]).repeat(1 + random.below(300)),
            ),
            5 => text.truncate(token.start),
            _ => text.replace_range(token, random.pick(&["null", "true", "[]", "{}", "\"\"", "\"../../x\"", "-1"])),
        }
    }
}

/// Words, numbers and signs of a JSON text.
fn tokens(text: &str) -> Vec<std::ops::Range<usize>> {
    let (mut tokens, mut start) = (Vec::new(), None);
    for (at, c) in text.char_indices() {
        let word = c.is_alphanumeric() || "_-.".contains(c);
        match (word, start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                tokens.extend([from..at, at..at + c.len_utf8()]);
                start = None;
            }
            (false, None) => tokens.push(at..at + c.len_utf8()),
            (true, Some(_)) => {}
        }
    }
    tokens
}

/// A field of a protobuf message: its tag, and what it holds.
#[derive(Clone)]
struct Field {
    tag: u64,
    value: Value,
}

#[derive(Clone)]
enum Value {
    Number(u64),
    Bytes(Vec<u8>),
    Message(Vec<Field>),
}

/// Changes one to three fields of a protobuf message, with all lengths put right afterwards.
pub(crate) fn protobuf(file: &mut Vec<u8>, random: &mut Random) {
    let Some(mut fields) = parse(file, 0) else { return bytes(file, 0..usize::MAX, random) };
    for _ in 0..1 + random.below(3) {
        change(&mut fields, random);
    }
    file.clear();
    write(&fields, file);
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The fields of a message; what could be a message within it is taken for one, to a depth that ONNX reaches.
fn parse(mut bytes: &[u8], depth: usize) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let length = match tag & 7 {
            0 => {
                fields.push(Field { tag, value: Value::Number(varint(&mut bytes)?) });
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)?).ok()?,
            5 => 4,
            _ => return None,
        };
        if tag >> 3 == 0 || tag >> 3 > 100 {
            return None;
        }
        let contents = bytes.get(..length)?;
        bytes = &bytes[length..];
        // Numbers of weights are no messages, however they look.
        let message =
            (tag & 7 == 2 && depth < 6 && length < 100_000_000 && tag >> 3 != 9).then(|| parse(contents, depth + 1));
        let value = match message.flatten() {
            Some(fields) if !fields.is_empty() => Value::Message(fields),
            _ => Value::Bytes(contents.to_vec()),
        };
        fields.push(Field { tag, value });
    }
    Some(fields)
}

fn put(mut value: u64, to: &mut Vec<u8>) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn write(fields: &[Field], to: &mut Vec<u8>) {
    for Field { tag, value } in fields {
        put(*tag, to);
        match value {
            Value::Number(number) => put(*number, to),
            Value::Bytes(bytes) => {
                if tag & 7 == 2 {
                    put(bytes.len() as u64, to);
                }
                to.extend(bytes);
            }
            Value::Message(fields) => {
                let mut inner = Vec::new();
                write(fields, &mut inner);
                put(inner.len() as u64, to);
                to.extend(inner);
            }
        }
    }
}

/// Changes one field, here or further in.
fn change(fields: &mut Vec<Field>, random: &mut Random) {
    let at = random.below(fields.len());
    let other = random.below(fields.len());
    let Some(field) = fields.get_mut(at) else { return };
    if let Value::Message(inner) = &mut field.value
        && !random.one_in(6)
    {
        return change(inner, random);
    }
    match (random.below(7), &mut field.value) {
        (0, _) => drop(fields.remove(at)),
        (1, _) => {
            let copy = field.clone();
            fields.insert(other, copy);
        }
        (2, _) => fields.swap(at, other),
        (3, _) => {
            let tag = fields[other].tag;
            fields[at].tag = (tag & !7) | (fields[at].tag & 7);
        }
        (_, Value::Number(number)) => *number = random.pick(&EDGES),
        (4, Value::Bytes(contents)) => {
            let word = random
                .pick(&["Reshape", "Gather", "image", "noise", "", "../../x", "Loop", "Expand", "MatMul", "batch"]);
            *contents = word.as_bytes().to_vec();
        }
        (5, Value::Bytes(_)) => {
            let value = fields[other].value.clone();
            fields[at].value = match value {
                Value::Number(_) => return,
                value => value,
            };
        }
        (_, Value::Bytes(contents)) if !contents.is_empty() => bytes(contents, 0..usize::MAX, random),
        (_, Value::Bytes(contents)) => contents.push(random.next() as u8),
        (_, Value::Message(inner)) => inner.extend(inner.clone()),
    }
}
