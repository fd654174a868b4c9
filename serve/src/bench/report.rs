//! What a measurement found, as a table, as CSV and as JSON.

use std::fmt;

use serde::Serialize;

use super::Latency;
use crate::engine::EngineInfo;
use crate::table::aligned;

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct BenchReport {
    /// Version of this program.
    pub version: &'static str,
    /// Name of the model.
    pub model: String,
    /// SHA-256 of its file.
    pub sha256: String,
    /// Floating point operations of one image: two for each multiplication of a matrix product.
    pub flops: f64,
    /// The engine, with the threads of the last measurement.
    pub engine: EngineInfo,
    /// Rate of a large matrix product, for each number of threads; empty where the processor does not compute.
    pub peaks: Vec<Peak>,
    /// One entry for each number of threads and each batch size.
    pub points: Vec<Point>,
}

/// What the machine can do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Peak {
    /// Threads.
    pub threads: usize,
    /// Floating point operations a second.
    pub flops_per_second: f64,
}

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Threads that compute a batch.
    pub threads: usize,
    /// Images at once.
    pub batch: usize,
    /// Times of one batch, in milliseconds.
    pub latency: Latency,
    /// Images a second.
    pub images_per_second: f64,
    /// Floating point operations a second.
    pub flops_per_second: f64,
    /// That rate as a share of the machine's peak with as many threads.
    pub share_of_peak: Option<f64>,
}

const CSV_HEAD: &str = "threads,batch,images_per_second,mean_ms,min_ms,p50_ms,p90_ms,p99_ms,max_ms,runs,stable,\
                        flops_per_second,share_of_peak";

impl BenchReport {
    /// The measurements as CSV with a line of names.
    #[must_use]
    pub fn csv(&self) -> String {
        let line = |point: &Point| {
            let Latency { runs, stable, mean, min, p50, p90, p99, max } = point.latency;
            let share = point.share_of_peak.map_or_else(String::new, |share| format!("{share:.4}"));
            format!(
                "{},{},{:.3},{mean:.3},{min:.3},{p50:.3},{p90:.3},{p99:.3},{max:.3},{runs},{stable},{:.4e},{share}\n",
                point.threads, point.batch, point.images_per_second, point.flops_per_second
            )
        };
        format!("{CSV_HEAD}\n{}", self.points.iter().map(line).collect::<String>())
    }
}

impl fmt::Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} ({}), {:.3} GFLOP an image",
            self.model,
            self.sha256.get(..12).unwrap_or_default(),
            self.flops / 1e9
        )?;
        writeln!(f, "{}", self.engine)?;
        for peak in &self.peaks {
            let rate = peak.flops_per_second / 1e9;
            writeln!(f, "peak with {}: {rate:.0} GFLOP/s (matrix product in f32)", threads(peak.threads))?;
        }
        let head = ["threads", "batch", "images/s", "mean ms", "p50", "p90", "p99", "runs", "GFLOP/s", "of peak"];
        let mut lines = vec![head.map(str::to_owned)];
        for point in &self.points {
            let Latency { runs, stable, mean, p50, p90, p99, .. } = point.latency;
            lines.push([
                point.threads.to_string(),
                point.batch.to_string(),
                format!("{:.1}", point.images_per_second),
                format!("{mean:.2}{}", if stable { "" } else { "*" }),
                format!("{p50:.2}"),
                format!("{p90:.2}"),
                format!("{p99:.2}"),
                runs.to_string(),
                format!("{:.1}", point.flops_per_second / 1e9),
                point.share_of_peak.map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", 100.0 * share)),
            ]);
        }
        f.write_str(&aligned(&lines))?;
        if self.points.iter().any(|point| !point.latency.stable) {
            writeln!(
                f,
                "* the last three windows did not agree: other work on this machine, or windows that are too short"
            )?;
        }
        Ok(())
    }
}

fn threads(count: usize) -> String {
    if count == 1 { "1 thread".to_owned() } else { format!("{count} threads") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::info;

    fn report() -> BenchReport {
        let latency =
            Latency { runs: 30, stable: true, mean: 10.0, min: 9.0, p50: 10.0, p90: 11.0, p99: 12.0, max: 13.0 };
        let point = |threads, batch, share_of_peak| Point {
            threads,
            batch,
            latency,
            images_per_second: 100.0 * batch as f64,
            flops_per_second: 5e10,
            share_of_peak,
        };
        let unstable = Latency { stable: false, ..latency };
        BenchReport {
            version: "0.1.0",
            model: "tiny".into(),
            sha256: "0123456789abcdef".into(),
            flops: 5e8,
            engine: info(),
            peaks: vec![Peak { threads: 1, flops_per_second: 1e11 }],
            points: vec![point(1, 1, Some(0.5)), Point { latency: unstable, ..point(2, 16, None) }],
        }
    }

    #[test]
    fn the_table_is_aligned_and_marks_what_did_not_settle() {
        let text = report().to_string();
        assert!(text.starts_with("tiny (0123456789ab), 0.500 GFLOP an image\n"), "{text}");
        assert!(text.contains("peak with 1 thread: 100 GFLOP/s"), "{text}");
        let rows: Vec<&str> = text.lines().skip(3).take(3).collect();
        assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{text}");
        assert!(rows[1].ends_with("50 %") && rows[2].contains("10.00*") && rows[2].ends_with('-'), "{text}");
        assert!(text.contains("did not agree"), "{text}");
    }

    #[test]
    fn csv_and_json_hold_the_same_numbers() {
        let csv = report().csv();
        let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
        assert_eq!(rows.len(), 3);
        assert!(rows.iter().all(|row| row.len() == 13), "{csv}");
        assert_eq!((rows[1][2], rows[1][12], rows[2][12]), ("100.000", "0.5000", ""));
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["points"][1]["latency"]["stable"], false);
        assert_eq!(json["points"][0]["share_of_peak"], 0.5);
    }
}
