//! Measures how networks rank known damage of CIFAR-10 and writes docs/evidence/eval/damage.{json,md}:
//!
//!     tools/fetch-data cifar10 FOLDER
//!     cargo run --release -p drifting-train --example damage -- FOLDER [LITE0-WEIGHTS]

#![allow(clippy::print_stdout, reason = "a program for the terminal")]

mod table;

use std::fmt::Write;
use std::path::Path;

use drifting_models::weights::write_bytes;
use drifting_train::eval::{Network, Published};

use table::{Cifar10, IMAGES, Result, Row};

/// Side of the images of EfficientNet-Lite0.
const SIDE: usize = 96;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: damage CIFAR10-FOLDER [LITE0-WEIGHTS]")?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cifar10 = Cifar10::open(&folder)?;
    let weights = root.join("tests/weights/cifar10-resnet56-4bfd9763.safetensors");
    let mut networks = vec![Published::resnet56(&weights)?];
    if let Some(lite0) = arguments.next() {
        networks.push(Published::lite0(Path::new(&lite0), SIDE)?);
    }
    let mut rows = Vec::new();
    for network in &networks {
        println!("{}", network.name());
        rows.push(cifar10.row(network)?);
    }
    let evidence = root.join("docs/evidence/eval");
    std::fs::create_dir_all(&evidence)?;
    let json = serde_json::json!({ "images": IMAGES, "rows": rows });
    write_bytes(&evidence.join("damage.json"), format!("{}\n", serde_json::to_string_pretty(&json)?).as_bytes())?;
    let page = page(&rows)?;
    write_bytes(&evidence.join("damage.md"), page.as_bytes())?;
    println!("{page}");
    Ok(())
}

fn page(rows: &[Row]) -> Result<String> {
    let mut page = format!(
        "# How networks rank known damage\n\n\
         CIFAR-10 as published; Fréchet distance between the first {IMAGES} training images and the first {IMAGES} test images (of the\n\
         classes that are left), damaged. With equal numbers of images on both sides the first column is what real images reach. Five classes are\n\
         the first five; JPEG keeps colours as fine as brightness; blur is halving by means and doubling bilinearly.\n\n    \
         tools/fetch-data cifar10 FOLDER\n    \
         cargo run --release -p drifting-train --example damage -- FOLDER [LITE0-WEIGHTS]\n\n\
         | distance |"
    );
    for (damage, _) in rows.first().map_or(&[][..], |row| &row.distances) {
        write!(page, " {damage} |")?;
    }
    let columns = rows.first().map_or(0, |row| row.distances.len());
    writeln!(page, "\n|{}", "---|".repeat(columns + 1))?;
    for row in rows {
        write!(page, "| {} |", row.distance)?;
        for (_, distance) in &row.distances {
            write!(page, " {} |", rounded(*distance))?;
        }
        writeln!(page)?;
    }
    writeln!(page)?;
    for row in rows {
        writeln!(page, "- {}: {}; weights {}", row.network, row.preparation, row.sha256)?;
        if let Some(accuracy) = row.accuracy {
            writeln!(page, "  - recognises {:.2} % of all 10,000 test images", 100.0 * accuracy)?;
        }
        let classes: Vec<String> = row.dropped.iter().map(|(class, d)| format!("{class} {}", rounded(*d))).collect();
        writeln!(page, "  - one class dropped, a mean of: {}", classes.join(", "))?;
    }
    Ok(page)
}

/// Three digits at least.
fn rounded(distance: f64) -> String {
    match distance {
        ..10.0 => format!("{distance:.2}"),
        10.0..100.0 => format!("{distance:.1}"),
        _ => format!("{distance:.0}"),
    }
}
