//! A profile as a table.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::{Profile, Row};

/// Width of the operations' names.
const NAME: usize = 28;

impl Display for Profile {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let machine = self.machine;
        let (gflops, gbytes) = (machine.flops / 1e9, machine.bytes / 1e9);
        writeln!(f, "{} steps of {:.1} ms, {} threads", self.steps, self.each(self.time), machine.threads)?;
        writeln!(f, "this machine at best: {gflops:.0} GFLOP/s (matrix product in f32), {gbytes:.1} GB/s (a = b + c)")?;
        let head = ["calls", "ms", "of step", "GFLOP/s", "of peak", "in products", "GB/s"];
        let head: Vec<_> = head.iter().map(|name| format!("{name:>11}")).collect();
        writeln!(f, "\n{:NAME$}{}", "in a step", head.concat())?;
        let mut part = None;
        for row in &self.rows {
            if part != Some(row.part) {
                part = Some(row.part);
                let all = self.rows.iter().filter(|other| other.part == row.part);
                let title = if row.part.is_empty() { "outside" } else { row.part };
                self.line(f, title, &sum(all))?;
            }
            self.line(f, &format!("  {}", row.name), row)?;
        }
        self.line(f, "all", &sum(self.rows.iter()))
    }
}

impl Profile {
    /// Milliseconds in one step.
    fn each(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e3 / self.steps.max(1) as f64
    }

    fn line(&self, f: &mut Formatter<'_>, name: &str, row: &Row) -> fmt::Result {
        let seconds = row.time.as_secs_f64().max(1e-9);
        let cell = |shown: bool, text: String| format!("{:>11}", if shown { text } else { "-".to_owned() });
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let (flops, bytes) = (row.flops as f64 / seconds, row.bytes as f64 / seconds);
        let threads = self.machine.threads.max(1) as f64;
        let cells = [
            cell(row.calls > 0, format!("{:.1}", row.calls as f64 / self.steps.max(1) as f64)),
            cell(true, format!("{:.2}", self.each(row.time))),
            cell(true, percent(seconds / self.time.as_secs_f64().max(1e-9))),
            cell(row.flops > 0, format!("{:.1}", flops / 1e9)),
            cell(row.flops > 0, percent(flops / self.machine.flops)),
            cell(row.flops > 0, percent(row.products.as_secs_f64() / seconds / threads)),
            cell(row.bytes > 0, format!("{:.2}", bytes / 1e9)),
        ];
        writeln!(f, "{name:NAME$}{}", cells.concat())
    }
}

/// Several operations as one; calls and bytes of different things do not add up to anything.
fn sum<'a>(rows: impl Iterator<Item = &'a Row>) -> Row {
    rows.fold(Row::default(), |sum, row| Row {
        time: sum.time + row.time,
        flops: sum.flops + row.flops,
        products: sum.products + row.products,
        ..sum
    })
}

#[cfg(test)]
mod tests {
    use super::super::Machine;
    use super::*;

    #[test]
    fn a_table_has_rates_beside_the_machines() {
        let ms = Duration::from_millis;
        let block = Row {
            part: "encode",
            name: "block",
            calls: 4,
            time: ms(60),
            flops: 3_000_000_000,
            bytes: 0,
            products: ms(90),
        };
        let norm = Row { part: "encode", name: "norm", calls: 2, time: ms(20), bytes: 40_000_000, ..Row::default() };
        let machine = Machine { threads: 2, flops: 100e9, bytes: 10e9 };
        let profile = Profile { steps: 2, time: ms(80), rows: vec![block, norm], machine, lanes: Vec::new() };
        let text = profile.to_string();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0].join(" "), "2 steps of 40.0 ms, 2 threads");
        let expected = [
            "encode - 40.00 100.0 % 37.5 37.5 % 56.2 % -",
            "block 2.0 30.00 75.0 % 50.0 50.0 % 75.0 % -",
            "norm 1.0 10.00 25.0 % - - - 2.00",
            "all - 40.00 100.0 % 37.5 37.5 % 56.2 % -",
        ];
        assert_eq!(lines[4..].iter().map(|line| line.join(" ")).collect::<Vec<_>>(), expected, "{text}");
    }
}
