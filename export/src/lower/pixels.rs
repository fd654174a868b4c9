//! Numbers become levels of pixels.

use drifting_spec::Pixels;

use crate::graph::{Result, Scope, Value};

/// `image` made of `pixels`. The operations are those of `drifting_spec::pixels::level`, one by one, so that file and
/// server round alike.
pub(super) fn pixels(g: &Scope, image: &Value, pixels: Pixels, [black, white]: [f32; 2]) -> Result<Value> {
    if pixels.is_float() {
        return Ok(image.clone());
    }
    let g = &g.part("pixels");
    let share = g.div(&g.sub(image, &g.scalar(black))?, &g.scalar(white - black))?;
    let level = g.mul(&g.clip(&share, 0.0, 1.0), &g.scalar(255.0))?;
    // A whole number before the cast: engines differ in how they cast others.
    Ok(g.bytes(&g.floor(&g.add(&level, &g.scalar(0.5))?)))
}
