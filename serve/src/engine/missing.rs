//! What a dynamic linker's complaint means, and the command that mends it.

use crate::runtime::Kit;

/// The library that `message` says is not there: `libcublas.so.13: cannot open shared object file: ...`.
pub(crate) fn missing_library(message: &str) -> Option<&str> {
    let end = message.find(": cannot open shared object file")?;
    let start = message[..end].rfind(|c: char| c.is_whitespace() || c == '/' || c == '(').map_or(0, |at| at + 1);
    Some(&message[start..end]).filter(|name| name.starts_with("lib") && name.contains(".so"))
}

/// Where the missing library comes from, if we know.
pub(crate) fn remedy(library: &str) -> Option<String> {
    let starts = |names: &[&str]| names.iter().any(|name| library.starts_with(name));
    if starts(&["libcuda.so", "libnvidia-ml.so"]) {
        let where_from =
            "comes with NVIDIA's driver (580 or newer for CUDA 13): install it, and give the container its GPU";
        return Some(format!("{library} {where_from}"));
    }
    if starts(&["libtensorrt_", "libonnxruntime_providers_nv"]) {
        return Some(format!("`{}` fetches {library}", Kit::TensorRt.command()));
    }
    if starts(&["libcudart", "libcublas", "libcurand", "libnvrtc", "libcudnn", "libonnxruntime_providers"]) {
        return Some(format!("`{}` fetches {library}", Kit::Cuda.command()));
    }
    if starts(&["libnvinfer", "libnvonnxparser"]) {
        return Some(format!(
            "{library} belongs to TensorRT 10, which NVIDIA's own packages install (then name its folder in \
             LD_LIBRARY_PATH); TensorRT-RTX comes with pip alone: `{}`, then --provider tensorrt-rtx",
            Kit::TensorRt.command()
        ));
    }
    starts(&["libz.so"]).then(|| format!("{library} is in the system's package zlib1g"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_library_is_found_in_the_message() {
        let ort = "Failed to load library /c/libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open \
                   shared object file: No such file or directory";
        assert_eq!(missing_library(ort), Some("libcublasLt.so.13"));
        let own = "/absent/libnvinfer.so.10: cannot open shared object file: No such file or directory";
        assert_eq!(missing_library(own), Some("libnvinfer.so.10"));
        assert_eq!(missing_library("no such provider"), None);
        assert_eq!(missing_library("x: cannot open shared object file"), None);
    }

    #[test]
    fn every_library_has_a_command_that_mends_it() {
        let of = |library: &str| remedy(library).unwrap_or_default();
        assert!(of("libcuda.so.1").contains("driver") && of("libnvidia-ml.so.1").contains("driver"));
        assert!(of("libcublas.so.13").contains("drifting runtime install --cuda"));
        assert!(of("libnvinfer.so.10").contains("LD_LIBRARY_PATH"));
        assert!(of("libtensorrt_rtx.so.1").contains("drifting runtime install --tensorrt"));
        assert!(of("libz.so.1").contains("zlib1g"));
        assert_eq!(remedy("libother.so"), None);
        // No library of a kit is without a remedy.
        for kit in [Kit::Cuda, Kit::TensorRt] {
            for library in kit.libraries().into_iter().filter(|name| !name.starts_with("libonnxruntime.")) {
                assert!(remedy(library).is_some_and(|text| text.contains("drifting runtime install")), "{library}");
            }
        }
    }
}
