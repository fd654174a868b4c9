//! Discs and lines on a white picture, their edges smoothed.

use drifting_spec::ImageShape;

use crate::run::encode_png;

/// Red, green, blue.
pub(crate) type Colour = [u8; 3];

/// A place on the picture in pixels from its upper left corner: (right, down).
pub(crate) type Place = [f64; 2];

/// Pixels of a side of a letter's dot.
const DOT: usize = 2;
/// Height of letters in pixels.
pub(crate) const TEXT_HEIGHT: f64 = 10.0;
/// Pixels from one letter to the next.
pub(crate) const TEXT_WIDTH: f64 = 8.0;

/// The five rows of a letter, three dots each.
fn glyph(letter: char) -> [u8; 5] {
    // A row is an octal digit.
    let rows: &[u8; 5] = match letter {
        '0' | 'O' => b"75557",
        '1' => b"26227",
        '2' => b"71747",
        '3' => b"71717",
        '4' => b"55711",
        '5' | 'S' => b"74717",
        '6' => b"74757",
        '7' => b"71111",
        '8' => b"75757",
        '9' => b"75717",
        'A' => b"75755",
        'B' => b"65656",
        'C' => b"74447",
        'D' => b"65556",
        'E' => b"74647",
        'F' => b"74644",
        'G' => b"74557",
        'H' => b"55755",
        'I' => b"72227",
        'J' => b"11157",
        'K' => b"55655",
        'L' => b"44447",
        'M' => b"57755",
        'N' => b"65555",
        'P' => b"75744",
        'Q' => b"75571",
        'R' => b"65655",
        'T' => b"72222",
        'U' => b"55557",
        'V' => b"55552",
        'W' => b"55775",
        'X' => b"55255",
        'Y' => b"55222",
        'Z' => b"71247",
        '-' => b"00700",
        '.' => b"00002",
        '+' => b"02720",
        _ => b"00000",
    };
    rows.map(|row| row - b'0')
}

/// A picture in the making.
pub(crate) struct Canvas {
    width: usize,
    height: usize,
    /// Red, green and blue of every pixel, row by row, 0 to 255.
    pixels: Vec<f32>,
}

impl Canvas {
    pub(crate) fn white(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![255.0; 3 * width * height] }
    }

    /// A filled disc.
    pub(crate) fn disc(&mut self, center: Place, radius: f64, colour: Colour, opacity: f64) {
        let ends = [center, center];
        self.capsule(ends, radius, colour, opacity);
    }

    /// A line with round ends.
    pub(crate) fn line(&mut self, ends: [Place; 2], width: f64, colour: Colour) {
        self.capsule(ends, width / 2.0, colour, 1.0);
    }

    /// A line that ends in a point.
    pub(crate) fn arrow(&mut self, [from, to]: [Place; 2], colour: Colour) {
        self.line([from, to], 1.2, colour);
        let (x, y) = (to[0] - from[0], to[1] - from[1]);
        let length = x.hypot(y);
        if length < 1.0 {
            return;
        }
        let head = (0.4 * length).clamp(2.0, 5.0) / length;
        for turn in [0.45f64, -0.45] {
            let (sine, cosine) = turn.sin_cos();
            let back = [to[0] - head * (x * cosine - y * sine), to[1] - head * (x * sine + y * cosine)];
            self.line([to, back], 1.2, colour);
        }
    }

    /// A border of one pixel around the rectangle.
    pub(crate) fn frame(&mut self, [left, top]: Place, side: f64, colour: Colour) {
        let (right, bottom) = (left + side, top + side);
        let corners = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]];
        for ends in corners.windows(2) {
            self.line([ends[0], ends[1]], 1.0, colour);
        }
    }

    /// Pixels `[left, left + side) x [top, top + side)` of one colour.
    fn square(&mut self, [left, top]: [usize; 2], side: usize, colour: Colour) {
        for row in (top..top + side).filter(|row| *row < self.height) {
            for column in (left..left + side).filter(|column| *column < self.width) {
                let pixel = &mut self.pixels[3 * (row * self.width + column)..][..3];
                pixel.iter_mut().zip(colour).for_each(|(value, colour)| *value = f32::from(colour));
            }
        }
    }

    /// Text in capitals of [`TEXT_HEIGHT`] pixels, from its upper left corner on; letters that the font lacks are blank.
    pub(crate) fn text(&mut self, [left, top]: Place, text: &str, colour: Colour) {
        let (left, top) = (left.max(0.0) as usize, top.max(0.0) as usize);
        for (place, letter) in text.chars().enumerate() {
            let rows = glyph(letter.to_ascii_uppercase());
            for dot in 0..15 {
                let (row, column) = (dot / 3, dot % 3);
                if rows[row] >> (2 - column) & 1 == 1 {
                    let corner = [left + (4 * place + column) * DOT, top + row * DOT];
                    self.square(corner, DOT, colour);
                }
            }
        }
    }

    /// All places within `radius` of a segment.
    fn capsule(&mut self, [from, to]: [Place; 2], radius: f64, colour: Colour, opacity: f64) {
        let range = |axis: usize, size: usize| {
            let (low, high) = (from[axis].min(to[axis]) - radius - 1.0, from[axis].max(to[axis]) + radius + 1.0);
            low.clamp(0.0, size as f64) as usize..high.clamp(0.0, size as f64) as usize
        };
        let (x, y) = (to[0] - from[0], to[1] - from[1]);
        let squared = (x * x + y * y).max(1e-12);
        for row in range(1, self.height) {
            for column in range(0, self.width) {
                let (right, down) = (column as f64 + 0.5 - from[0], row as f64 + 0.5 - from[1]);
                let along = ((right * x + down * y) / squared).clamp(0.0, 1.0);
                let distance = (right - along * x).hypot(down - along * y);
                let cover = (radius + 0.5 - distance).clamp(0.0, 1.0) * opacity;
                let pixel = &mut self.pixels[3 * (row * self.width + column)..][..3];
                for (value, colour) in pixel.iter_mut().zip(colour) {
                    *value += cover as f32 * (f32::from(colour) - *value);
                }
            }
        }
    }

    /// The picture as PNG; `None` for one without pixels.
    pub(crate) fn png(&self) -> Option<Vec<u8>> {
        let bytes = self.pixels.iter().map(|value| value.round() as u8).collect();
        let shape = ImageShape { channels: 3, height: self.height, width: self.width };
        encode_png(shape, bytes, self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(canvas: &Canvas) -> f32 {
        canvas.pixels.chunks_exact(3).map(|pixel| 1.0 - pixel[0] / 255.0).sum()
    }

    #[test]
    fn areas_are_those_of_the_shapes() {
        let mut canvas = Canvas::white(40, 30);
        canvas.disc([20.3, 15.1], 6.0, [0, 0, 0], 1.0);
        assert!((area(&canvas) - 36.0 * std::f32::consts::PI).abs() < 2.0, "{}", area(&canvas));
        let mut canvas = Canvas::white(40, 30);
        canvas.line([[5.0, 15.0], [35.0, 15.0]], 2.0, [0, 0, 0]);
        assert!((area(&canvas) - (60.0 + std::f32::consts::PI)).abs() < 2.0, "{}", area(&canvas));
    }

    #[test]
    fn letters_have_as_many_dots_as_the_font_says() {
        let mut canvas = Canvas::white(40, 12);
        canvas.text([2.0, 1.0], "i-?", [0, 0, 0]);
        // 3 + 1 + 1 + 1 + 3 of the I, 3 of the line, none of a letter that is not there.
        assert_eq!(area(&canvas), (12 * DOT * DOT) as f32);
        canvas.text([36.0, 8.0], "8", [0, 0, 0]);
        assert!(canvas.png().is_some(), "a letter may stand out of the picture");
    }

    #[test]
    fn what_lies_outside_is_left_out() {
        let mut canvas = Canvas::white(10, 10);
        canvas.arrow([[-50.0, -50.0], [-20.0, 900.0]], [0, 0, 0]);
        canvas.disc([f64::NAN, 5.0], 3.0, [0, 0, 0], 1.0);
        assert_eq!(area(&canvas), 0.0);
        let png = canvas.png().unwrap();
        assert_eq!(image::load_from_memory(&png).unwrap().into_rgb8().dimensions(), (10, 10));
    }
}
