//! A plan in words.

use std::fmt;

use super::Plan;

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, kind, steps, images_per_step, .. } = self;
        writeln!(formatter, "{name}: {kind}, {} parameters", short(self.parameters as f64, ""))?;
        for note in &self.notes {
            writeln!(formatter, "  {note}")?;
        }
        let images = short(*steps as f64 * *images_per_step as f64, "");
        write!(formatter, "  {steps} steps of {images_per_step}: {images} images")?;
        match (self.epochs(), self.data_images) {
            (Some(epochs), Some(data)) => writeln!(formatter, ", {epochs:.1} epochs of {data}")?,
            _ => writeln!(formatter)?,
        }
        writeln!(formatter, "  a step: {}", sum(&self.flops, "FLOP"))?;
        if let Some(parts) = self.memory.device() {
            writeln!(formatter, "  GPU memory: {}", sum(&parts, "B"))?;
        }
        write!(formatter, "  memory: {}", sum(&self.memory.host(), "B"))?;
        for missing in &self.missing {
            write!(formatter, "\n  missing: {missing}")?;
        }
        Ok(())
    }
}

/// All parts together, and each of them.
fn sum(parts: &[(&str, f64)], unit: &str) -> String {
    let all: f64 = parts.iter().map(|(_, value)| value).sum();
    let parts: Vec<_> = parts.iter().map(|(name, value)| format!("{name} {}", short(*value, unit))).collect();
    if parts.is_empty() { short(all, unit) } else { format!("{} ({})", short(all, unit), parts.join(", ")) }
}

/// Three digits and a prefix, such as `1.10 PFLOP`.
fn short(value: f64, unit: &str) -> String {
    let prefixes = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let (scale, prefix) = prefixes.into_iter().find(|(scale, _)| value >= *scale).unwrap_or((1.0, ""));
    let text = match value / scale {
        small if small < 10.0 && scale > 1.0 => format!("{small:.2}"),
        small if small < 100.0 && scale > 1.0 => format!("{small:.1}"),
        large => format!("{large:.0}"),
    };
    let parted = format!("{text} {prefix}{unit}");
    parted.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        for (value, expected) in
            [(0.0, "0 B"), (950.0, "950 B"), (1100.0, "1.10 kB"), (45.67e9, "45.7 GB"), (602e12, "602 TB")]
        {
            assert_eq!(short(value, "B"), expected);
        }
    }
}
