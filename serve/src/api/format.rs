//! What an answer's body can be, and which of these a request asks for.

use std::cmp::Reverse;

use axum::http::{HeaderMap, StatusCode, header};

use super::error::{Allowed, ApiError};

/// What the response's body is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Format {
    /// One PNG: the image, or a sheet of all of them.
    #[default]
    Png,
    /// The same as a JPEG.
    Jpeg,
    /// The same as a lossless WebP.
    Webp,
    /// An array of every image's levels.
    Npy,
    /// JSON with one PNG per image.
    Json,
}

impl Format {
    /// In the order in which they are preferred where a client does not care.
    pub(super) const ALL: [Self; 5] = [Self::Png, Self::Webp, Self::Jpeg, Self::Json, Self::Npy];

    /// As `format=` has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpeg",
            Self::Webp => "webp",
            Self::Npy => "npy",
            Self::Json => "json",
        }
    }

    /// As `accept` and `content-type` have it.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Webp => "image/webp",
            Self::Npy => "application/x-npy",
            Self::Json => "application/json",
        }
    }

    /// Pixels that a side of one file can have; `None` where there are no sheets.
    pub(super) fn longest_side(self) -> Option<usize> {
        match self {
            Self::Png => Some(i32::MAX as usize),
            Self::Jpeg => Some(65535),
            Self::Webp => Some(16384),
            Self::Npy | Self::Json => None,
        }
    }

    /// The format that is called `name`.
    ///
    /// # Errors
    /// 422 for any other name.
    pub(super) fn named(name: &str) -> Result<Self, ApiError> {
        Self::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| {
            let allowed = Allowed::OneOf(Self::ALL.map(|format| format.name().to_owned()).into());
            ApiError::range("format", format!("format {name:?} is not offered"), allowed)
        })
    }

    /// The format that the header `accept` likes best (RFC 9110, section 12.5.1); PNG without one.
    ///
    /// # Errors
    /// 406 if it likes none of them.
    pub(super) fn accepted(headers: &HeaderMap) -> Result<Self, ApiError> {
        let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let ranges: Vec<_> = values.flat_map(|value| value.split(',')).filter_map(Range::parse).collect();
        if ranges.is_empty() {
            return Ok(Self::default());
        }
        // The most exact range counts for a format; of equal ones, the first.
        let liked = |format: &Self| {
            let holds = ranges.iter().enumerate().filter(|(_, range)| range.holds(format.media_type()));
            let (place, range) = holds.max_by_key(|(place, range)| (range.exactness(), Reverse(*place)))?;
            (range.quality > 0).then_some((range.quality, range.exactness(), Reverse(place)))
        };
        let liked = Self::ALL.into_iter().rev().filter_map(|format| Some((liked(&format)?, format)));
        liked.max_by_key(|(liking, _)| *liking).map(|(_, format)| format).ok_or_else(|| {
            let message = "the header \"accept\" takes none of the formats that are offered";
            let allowed = Allowed::OneOf(Self::ALL.map(|format| format.media_type().to_owned()).into());
            ApiError::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", message).with_allowed(allowed)
        })
    }
}

/// One element of the header `accept`.
struct Range {
    kind: String,
    subtype: String,
    /// Thousandths.
    quality: u16,
}

impl Range {
    /// Nothing for what is no media range.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let mut quality = 1000;
        for parameter in parts {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if name.trim().eq_ignore_ascii_case("q") {
                let given: f32 = value.trim().parse().ok().filter(|given| (0.0..=1.0).contains(given))?;
                quality = (given * 1000.0).round() as u16;
            }
        }
        Some(Self { kind: kind.to_ascii_lowercase(), subtype: subtype.to_ascii_lowercase(), quality })
    }

    fn holds(&self, media_type: &str) -> bool {
        let (kind, subtype) = media_type.split_once('/').unwrap_or((media_type, ""));
        match self.exactness() {
            0 => true,
            1 => self.kind == kind,
            _ => self.kind == kind && self.subtype == subtype,
        }
    }

    /// 0 for `*/*`, 1 for `image/*`, 2 for a single type.
    fn exactness(&self) -> u8 {
        match (self.kind.as_str(), self.subtype.as_str()) {
            ("*", "*") => 0,
            (_, "*") => 1,
            _ => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(values: &[&'static str]) -> Result<Format, u16> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::ACCEPT, axum::http::HeaderValue::from_static(value));
        }
        Format::accepted(&headers).map_err(|error| error.status.as_u16())
    }

    #[test]
    fn accept_chooses_by_liking_then_exactness_then_order() {
        assert_eq!(accepted(&[]), Ok(Format::Png));
        assert_eq!(accepted(&["*/*"]), Ok(Format::Png));
        assert_eq!(accepted(&["image/*"]), Ok(Format::Png));
        assert_eq!(accepted(&["application/*"]), Ok(Format::Json));
        assert_eq!(accepted(&["application/x-npy"]), Ok(Format::Npy));
        assert_eq!(accepted(&["Image/WebP, image/*"]), Ok(Format::Webp));
        assert_eq!(accepted(&["image/png;q=0.5, image/jpeg;q=0.9"]), Ok(Format::Jpeg));
        assert_eq!(accepted(&["image/png;q=0.5", "image/jpeg ; q = 0.9"]), Ok(Format::Jpeg));
        assert_eq!(accepted(&["*/*;q=0.1, application/json;charset=utf-8;q=0.2"]), Ok(Format::Json));
        assert_eq!(accepted(&["image/*, image/png;q=0"]), Ok(Format::Webp));
        assert_eq!(accepted(&["text/html,application/xml;q=0.9,*/*;q=0.8"]), Ok(Format::Png));
        assert_eq!(accepted(&["text/html"]), Err(406));
        assert_eq!(accepted(&["*/*;q=0"]), Err(406));
        // What is no range is passed over.
        assert_eq!(accepted(&["", ",;=,q=1,image/webp;q=2,image/png;q=x"]), Ok(Format::Png));
    }
}
