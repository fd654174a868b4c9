//! The words of a model card.

use drifting_spec::{GeneratorConfig, ImageShape, Manifest, ManifestError, names};

use super::SAMPLES_FILE;
use super::samples::{SEED, Sheet};
use crate::{REPORT_FILE, Report, Result};

/// Class names that are listed one by one.
const NAMED: usize = 40;

/// The card of the model in `file`.
///
/// # Errors
/// A decoder that does not read the generator's latents.
pub(super) fn card(file: &str, manifest: &Manifest, report: &Report, sheet: Option<&Sheet>) -> Result<String> {
    let image = manifest.image().map_err(ManifestError::from)?;
    let sections = [
        head(manifest, image),
        sheet.map(|sheet| pictures(manifest, sheet)).unwrap_or_default(),
        interface(manifest, image),
        serving(file, manifest),
        origin(manifest, report),
        verification(report),
        LICENCE.to_owned(),
    ];
    let filled: Vec<&str> = sections.iter().map(|section| section.trim_end()).filter(|text| !text.is_empty()).collect();
    Ok(filled.join("\n\n") + "\n")
}

/// Nobody but the user knows it.
const LICENCE: &str = "## Licence and use

To be filled in by whoever publishes this model: the licence of the weights, what they were trained on and under which terms,
what the model is meant for and what it is not. `drifting` itself (MIT or Apache-2.0) claims nothing about weights.";

fn head(manifest: &Manifest, image: ImageShape) -> String {
    let GeneratorConfig { patch, hidden, depth, heads, classes, .. } = &manifest.generator;
    let (channels, height, width) = (image.channels, image.height, image.width);
    let kind = match channels {
        1 => "grey images",
        3 => "colour images",
        _ => "latents",
    };
    format!(
        "# {name}

A one-step image generator, trained by drifting ([arXiv 2602.04770](https://arxiv.org/abs/2602.04770)): noise and a class
become an image in one forward pass.

| | |
|---|---|
| makes | {channels}x{height}x{width} {kind} of {classes} classes |
| network | transformer of {depth} blocks, width {hidden}, {heads} heads, patches of {patch}x{patch}, {tokens} tokens{decoder} |
| arithmetic | {flops} an image (two operations for each multiplication of a matrix product) |
| guidance | alpha from {min} to {max}, {default} unless said otherwise |",
        name = one_line(&manifest.name),
        tokens = manifest.generator.tokens(),
        decoder = manifest.decoder.as_ref().map_or_else(String::new, |decoder| format!("; decoder {}", decoder.config.name())),
        flops = flops(2.0 * manifest.macs() as f64),
        min = manifest.alpha.min,
        max = manifest.alpha.max,
        default = manifest.alpha.default,
    )
}

/// Three digits and a prefix.
fn flops(operations: f64) -> String {
    let (value, prefix) = match operations {
        1e12.. => (operations / 1e12, "T"),
        1e9.. => (operations / 1e9, "G"),
        _ => (operations / 1e6, "M"),
    };
    let decimals = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.decimals$} {prefix}FLOP")
}

fn pictures(manifest: &Manifest, sheet: &Sheet) -> String {
    let names: Vec<String> = sheet.classes.iter().map(|&class| class_name(manifest, class)).collect();
    format!(
        "## Samples

![Samples]({SAMPLES_FILE})

One class a row: {}. Seed {SEED}, alpha {}; not chosen by hand.",
        names.join(", "),
        manifest.alpha.default
    )
}

fn class_name(manifest: &Manifest, class: usize) -> String {
    let name = manifest.classes.get(class).map(|name| one_line(name)).unwrap_or_default();
    if name == class.to_string() { name } else { format!("{name} ({class})") }
}

/// A name that cannot end a line, a cell of a table or a span of code.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || "|`<>[]".contains(c) { ' ' } else { c }).collect::<String>().trim().into()
}

fn interface(manifest: &Manifest, image: ImageShape) -> String {
    let shape = |image: ImageShape| format!("[batch, {}, {}, {}]", image.channels, image.height, image.width);
    let style = match manifest.generator.style_tokens {
        0 => String::new(),
        tokens => format!(
            "\n| `{}` | i64 `[batch, {tokens}]` | style indices, each drawn uniformly from 0..{} |",
            names::STYLE,
            manifest.generator.style_codes
        ),
    };
    let [black, white] = manifest.output_range();
    let (kind, clipped) = if manifest.pixels.is_float() { ("f32", "not clipped; ") } else { ("u8", "") };
    let mut text = format!(
        "## Interface

| name | type and shape | meaning |
|---|---|---|
| `{noise}` | f32 `{latent}` | Gaussian noise |{style}
| `{class}` | i64 `[batch]` | class, 0..{classes} |
| `{alpha}` | f32 `[batch]` | guidance |
| `{output}` (output) | {kind} `{shape}` | {clipped}{black} is the darkest value, {white} the brightest |",
        latent = shape(manifest.generator.image),
        shape = shape(image),
        noise = names::NOISE,
        class = names::CLASS,
        classes = manifest.generator.classes,
        alpha = names::ALPHA,
        output = names::IMAGE,
    );
    let numbered = manifest.classes.iter().enumerate().all(|(class, name)| *name == class.to_string());
    if !numbered {
        let names = (0..manifest.classes.len().min(NAMED)).map(|class| class_name(manifest, class));
        let rest = if manifest.classes.len() > NAMED { ", ... (all in the file's metadata)" } else { "" };
        text += &format!("\n\nClasses: {}{rest}.", names.collect::<Vec<_>>().join(", "));
    }
    text
}

fn serving(file: &str, manifest: &Manifest) -> String {
    let alpha = manifest.alpha.default;
    format!(
        "## Serving

```sh
drifting serve {file}
curl -X POST 'localhost:8000/generate?class=0&alpha={alpha}&seed=7' -o image.png
drifting sample {file} --class 0 --alpha {alpha} --seed 7 -n 1 --out the-same-image.png
```

Any ONNX runtime runs the file. The caller draws noise and style codes and checks all ranges: the graph does not."
    )
}

fn origin(manifest: &Manifest, report: &Report) -> String {
    let origin = &manifest.provenance;
    let average = origin.ema_decay.map_or_else(|| "no moving average".to_owned(), |decay| format!("average {decay}"));
    let weights = if origin.weights_sha256.is_empty() { "not known" } else { &origin.weights_sha256 };
    let decoder =
        manifest.decoder.as_ref().map(|decoder| decoder.weights_sha256.as_str()).filter(|hash| !hash.is_empty());
    let decoder = decoder.map_or_else(String::new, |hash| format!("\n| sha256 of the decoder's weights | {hash} |"));
    format!(
        "## Origin

| | |
|---|---|
| weights | optimizer step {}, {average} |
| sha256 of the weights | {weights} |{decoder}
| sha256 of the model | {} |
| written by | drifting {} |",
        origin.step, report.model_sha256, report.tool_version
    )
}

fn verification(report: &Report) -> String {
    let mut text = format!(
        "## Verification

All {} parameters were read back and are the generator's, bit for bit. Images at the edges of class, style and alpha were
compared with candle's; largest difference allowed: {:.1e}. Everything is in [{REPORT_FILE}]({REPORT_FILE}).

| engine | largest difference from candle | alone and in a batch |
|---|---|---|",
        report.parameters, report.tolerance
    );
    let number = |value: Option<f32>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1e}"));
    for runner in &report.runners {
        let largest = runner.batches.iter().filter_map(|batch| batch.max_abs_diff).reduce(f32::max);
        text +=
            &format!("\n| {} | {} | {} |", one_line(&runner.name), number(largest), number(runner.batch_invariance));
    }
    let output = report.output;
    text += &format!(
        "\n\nThe images compared lie in {:.3}..{:.3} with a standard deviation of {:.3}.",
        output.min, output.max, output.std
    );
    text
}

#[cfg(test)]
mod tests {
    use drifting_spec::AlphaRange;

    use super::*;
    use crate::verify::{BatchReport, OutputRange, RunnerReport};

    fn report() -> Report {
        let batches = vec![BatchReport { batch: 1, max_abs_diff: Some(3e-6) }];
        let runner =
            RunnerReport { name: "rten/0.27.0".into(), batches, batch_invariance: Some(0.0), problems: Vec::new() };
        Report {
            model_sha256: "abc".into(),
            tool_version: "0.1.0".into(),
            parameters: 44,
            tolerance: 1e-4,
            output: OutputRange { min: -1.0, max: 1.0, std: 0.5 },
            runners: vec![runner],
            failures: Vec::new(),
        }
    }

    fn manifest(names: &[&str]) -> Manifest {
        let image = ImageShape { channels: 1, height: 28, width: 28 };
        let config = GeneratorConfig::new(image, 4, 96, 2, 3, names.len());
        let alpha = AlphaRange { min: 1.0, max: 4.0, default: 1.5 };
        let classes = names.iter().map(|&name| name.to_owned()).collect();
        Manifest { classes, ..Manifest::new("clothes\n# not a title".into(), config, alpha) }
    }

    #[test]
    fn a_card_says_what_the_model_is_and_how_it_was_checked() {
        let sheet = Sheet { png: Vec::new(), classes: vec![0, 1] };
        let text = card("model.onnx", &manifest(&["Boot", "Bag|x"]), &report(), Some(&sheet)).unwrap();
        for words in [
            "# clothes # not a title\n\n",
            "1x28x28 grey images of 2 classes",
            "| `style` | i64 `[batch, 32]` |",
            "Classes: Boot (0), Bag x (1).",
            "One class a row: Boot (0), Bag x (1). Seed 0, alpha 1.5",
            "drifting serve model.onnx",
            "| sha256 of the model | abc |",
            "| rten/0.27.0 | 3.0e-6 | 0.0e0 |",
            "## Licence and use\n\nTo be filled in",
        ] {
            assert!(text.contains(words), "{words} in {text}");
        }
        assert!(!text.contains("\n\n\n") && text.ends_with(".\n"), "{text}");
    }

    #[test]
    fn what_is_not_there_is_left_out() {
        let mut plain = manifest(&["0", "1"]);
        plain.generator.style_tokens = 0;
        let text = card("model.onnx", &plain, &report(), None).unwrap();
        assert!(!text.contains("samples.png") && !text.contains("`style`") && !text.contains("Classes:"), "{text}");
    }

    #[test]
    fn sums_have_three_digits() {
        assert_eq!(flops(2.28e11), "228 GFLOP");
        assert_eq!(flops(1.234e9), "1.23 GFLOP");
        assert_eq!(flops(1.2e12), "1.20 TFLOP");
        assert_eq!(flops(56.78e6), "56.8 MFLOP");
    }
}
