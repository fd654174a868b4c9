//! The keys that a request brings.

use axum::http::{HeaderMap, HeaderName, header};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// All of them: `authorization: Bearer KEY`, `x-api-key: KEY`, and the password of `authorization: Basic`, which is how
/// a browser sends what it has asked its user for.
pub(super) fn given(headers: &HeaderMap) -> impl Iterator<Item = Vec<u8>> {
    let authorization = headers.get_all(header::AUTHORIZATION).iter().filter_map(|value| key(value.as_bytes()));
    let own = headers.get_all(X_API_KEY).iter().map(|value| value.as_bytes().to_vec());
    authorization.chain(own)
}

fn key(value: &[u8]) -> Option<Vec<u8>> {
    let space = value.iter().position(|&byte| byte == b' ')?;
    let (scheme, rest) = (&value[..space], value[space..].trim_ascii());
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some(rest.to_vec());
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    let pair = decode(rest)?;
    let colon = pair.iter().position(|&byte| byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}

/// Bytes from base64, with padding or without.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().rposition(|&letter| letter != b'=').map_or(0, |last| last + 1);
    let mut bytes = Vec::with_capacity(end * 3 / 4);
    for group in text[..end].chunks(4) {
        let mut bits = 0;
        for &letter in group {
            bits = bits << 6 | digit(letter)?;
        }
        let bits = bits << (6 * (4 - group.len()));
        bytes.extend(&bits.to_be_bytes()[1..group.len()]);
    }
    Some(bytes)
}

fn digit(letter: u8) -> Option<u32> {
    let value = match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn keys(headers: &[(HeaderName, &'static str)]) -> Vec<String> {
        let pairs = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(name, value);
        }
        given(&map).map(|key| String::from_utf8(key).unwrap()).collect()
    }

    #[test]
    fn three_ways_to_bring_a_key() {
        let authorization = header::AUTHORIZATION;
        assert_eq!(keys(&[(authorization.clone(), "Bearer abc")]), ["abc"]);
        assert_eq!(keys(&[(authorization.clone(), "bEARER  abc ")]), ["abc"]);
        // me:open:sesame
        assert_eq!(keys(&[(authorization.clone(), "Basic bWU6b3BlbjpzZXNhbWU=")]), ["open:sesame"]);
        assert_eq!(keys(&[(X_API_KEY, "abc"), (authorization.clone(), "Bearer d")]), ["d", "abc"]);
        for nothing in ["abc", "Digest abc", "Basic", "Basic bWU", "Basic b*U6YQ==", "Basic ====", "", "Basic Zg=a"] {
            assert_eq!(keys(&[(authorization.clone(), nothing)]), [""; 0], "{nothing}");
        }
    }

    #[test]
    fn the_examples_of_the_standard() {
        for (text, expected) in
            [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYg", "foob"), ("Zm9vYmFy", "foobar")]
        {
            assert_eq!(decode(text.as_bytes()).unwrap(), expected.as_bytes());
        }
        assert_eq!(decode(b"//4=").unwrap(), [0xff, 0xfe]);
        assert_eq!(decode(b"A").unwrap(), [0; 0]);
    }
}
