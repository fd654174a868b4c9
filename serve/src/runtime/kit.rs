//! Kits: shared libraries that belong together, and the Python wheels that carry them, pinned by hash.

use std::env::consts::{ARCH, OS};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// The version of ONNX Runtime in the kits.
pub const VERSION: &str = "1.31.1";

/// The version of TensorRT-RTX in its kit.
pub const TENSORRT_RTX_VERSION: &str = "1.7.1";

/// Shared libraries that are installed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Kit {
    /// ONNX Runtime for the CPU.
    #[serde(rename = "onnxruntime")]
    OnnxRuntime,
    /// ONNX Runtime with its CUDA and TensorRT providers, and the CUDA 13 libraries that the former needs.
    #[serde(rename = "cuda")]
    Cuda,
    /// TensorRT-RTX, its ONNX parser, and its provider as a plug-in for ONNX Runtime.
    #[serde(rename = "tensorrt")]
    TensorRt,
}

/// One wheel, for one platform.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wheel {
    /// The kit that it belongs to.
    pub(super) kit: Kit,
    /// The operating system, as Rust calls it.
    pub(super) os: &'static str,
    /// The processor, as Rust calls it.
    pub(super) arch: &'static str,
    /// Name of the package.
    pub(super) package: &'static str,
    /// Its version.
    pub(super) version: &'static str,
    /// pip's name of the platform.
    pub(super) platform: &'static str,
    /// SHA-256 of the wheel.
    pub(super) sha256: &'static str,
    /// The libraries inside of it, in an order in which each finds what it needs among those before it.
    pub(super) members: &'static [&'static str],
    /// Size of the download in megabytes.
    pub(super) megabytes: u64,
    /// Size of `members` in megabytes.
    pub(super) unpacked: u64,
}

/// The plug-in provider of [`Kit::TensorRt`].
pub(crate) const PLUGIN: &str = "libonnxruntime_providers_nv_tensorrt_rtx.so";
/// TensorRT-RTX itself.
#[cfg(any(test, feature = "tensorrt"))]
pub(crate) const TENSORRT_RTX: &str = "libtensorrt_rtx.so.1.7.1";
/// Its reader of ONNX files.
#[cfg(any(test, feature = "tensorrt"))]
pub(crate) const TENSORRT_RTX_PARSER: &str = "libtensorrt_onnxparser_rtx.so.1.7.1";

const LINUX: Wheel = Wheel {
    kit: Kit::OnnxRuntime,
    os: "linux",
    arch: "x86_64",
    package: "onnxruntime",
    version: VERSION,
    platform: "manylinux_2_28_x86_64",
    sha256: "5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f",
    members: &["onnxruntime/capi/libonnxruntime.so.1.31.1"],
    megabytes: 24,
    unpacked: 30,
};

const CUDA: Wheel = Wheel { kit: Kit::Cuda, ..LINUX };

const WHEELS: [Wheel; 10] = [
    LINUX,
    Wheel {
        arch: "aarch64",
        platform: "manylinux_2_28_aarch64",
        sha256: "da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3",
        megabytes: 21,
        ..LINUX
    },
    Wheel {
        os: "macos",
        arch: "aarch64",
        platform: "macosx_14_0_arm64",
        sha256: "60b6b69bfe580eab576cacc5d132a0e9cf2a37fcfd18d46dd191042b1d1ed0d7",
        members: &["onnxruntime/capi/libonnxruntime.1.31.1.dylib"],
        megabytes: 21,
        ..LINUX
    },
    Wheel {
        package: "nvidia-cuda-runtime",
        version: "13.0.96",
        platform: "manylinux_2_17_x86_64",
        sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
        members: &["nvidia/cu13/lib/libcudart.so.13"],
        megabytes: 3,
        unpacked: 1,
        ..CUDA
    },
    Wheel {
        package: "nvidia-cublas",
        version: "13.0.2.14",
        platform: "manylinux_2_27_x86_64",
        sha256: "0cf238ffdbe46c00cb9aa98e7bca745c223a5ca5a53e686ac8b3e5a08fe80d6c",
        members: &["nvidia/cu13/lib/libcublasLt.so.13", "nvidia/cu13/lib/libcublas.so.13"],
        megabytes: 421,
        unpacked: 594,
        ..CUDA
    },
    Wheel {
        package: "nvidia-curand",
        version: "10.4.0.35",
        platform: "manylinux_2_27_x86_64",
        sha256: "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc",
        members: &["nvidia/cu13/lib/libcurand.so.10"],
        megabytes: 60,
        unpacked: 133,
        ..CUDA
    },
    Wheel {
        package: "nvidia-cuda-nvrtc",
        version: "13.0.88",
        platform: "manylinux_2_12_x86_64",
        sha256: "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575",
        members: &["nvidia/cu13/lib/libnvrtc-builtins.so.13.0", "nvidia/cu13/lib/libnvrtc.so.13"],
        megabytes: 90,
        unpacked: 114,
        ..CUDA
    },
    Wheel {
        package: "nvidia-cudnn-cu13",
        version: "9.28.1.4",
        platform: "manylinux_2_27_x86_64",
        sha256: "a54f205b1db1f2895d99f398754db1369816f0569dd459731f925635cf7b65ec",
        members: &[
            "nvidia/cudnn/lib/libcudnn.so.9",
            "nvidia/cudnn/lib/libcudnn_graph.so.9",
            "nvidia/cudnn/lib/libcudnn_ops.so.9",
            "nvidia/cudnn/lib/libcudnn_heuristic.so.9",
            "nvidia/cudnn/lib/libcudnn_ext.so.9",
            "nvidia/cudnn/lib/libcudnn_engines_precompiled.so.9",
            "nvidia/cudnn/lib/libcudnn_engines_runtime_compiled.so.9",
            "nvidia/cudnn/lib/libcudnn_engines_tensor_ir.so.9",
            "nvidia/cudnn/lib/libcudnn_cnn.so.9",
            "nvidia/cudnn/lib/libcudnn_adv.so.9",
        ],
        megabytes: 517,
        unpacked: 941,
        ..CUDA
    },
    Wheel {
        package: "onnxruntime-gpu",
        sha256: "e26c475fe361b2015f45b4b824bd13f0bb20204e59b62814e6f0acd5f3d491a6",
        members: &[
            "onnxruntime/capi/libonnxruntime.so.1.31.1",
            "onnxruntime/capi/libonnxruntime_providers_shared.so",
            "onnxruntime/capi/libonnxruntime_providers_cuda.so",
            "onnxruntime/capi/libonnxruntime_providers_tensorrt.so",
        ],
        megabytes: 256,
        unpacked: 315,
        ..CUDA
    },
    Wheel {
        kit: Kit::TensorRt,
        package: "onnxruntime-ep-nv-tensorrt-rtx-cu13",
        version: "0.5.0",
        sha256: "32f575c633d171b4edf4b53d3bb22b72a6c9c0a850d2982ce9a788a5d40d3298",
        members: &[
            "onnxruntime_ep_nv_tensorrt_rtx/libcudart.so.13.4.36",
            "onnxruntime_ep_nv_tensorrt_rtx/libtensorrt_rtx.so.1.7.1",
            "onnxruntime_ep_nv_tensorrt_rtx/libtensorrt_onnxparser_rtx.so.1.7.1",
            "onnxruntime_ep_nv_tensorrt_rtx/libtensorrt_shim.so",
            "onnxruntime_ep_nv_tensorrt_rtx/libtensorrt_plugins.so",
            "onnxruntime_ep_nv_tensorrt_rtx/libonnxruntime_providers_nv_tensorrt_rtx.so",
        ],
        megabytes: 147,
        unpacked: 316,
        ..LINUX
    },
];

impl Kit {
    /// All kits.
    pub const ALL: [Self; 3] = [Self::OnnxRuntime, Self::Cuda, Self::TensorRt];

    /// What the kit is, for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::OnnxRuntime => "ONNX Runtime 1.31.1",
            Self::Cuda => "ONNX Runtime 1.31.1 for CUDA 13",
            Self::TensorRt => "TensorRT-RTX 1.7.1",
        }
    }

    /// The command that installs it.
    #[must_use]
    pub fn command(self) -> &'static str {
        match self {
            Self::OnnxRuntime => "drifting runtime install",
            Self::Cuda => "drifting runtime install --cuda",
            Self::TensorRt => "drifting runtime install --tensorrt",
        }
    }

    /// Its folder within the cache, which names versions, so that a new version is a new folder.
    fn folder(self) -> &'static str {
        match self {
            Self::OnnxRuntime => "onnxruntime/1.31.1",
            Self::Cuda => "onnxruntime-gpu/1.31.1-cuda13.0-cudnn9.28",
            Self::TensorRt => "tensorrt-rtx/1.7.1-ep0.5.0",
        }
    }

    /// Its wheels for the machine that this program was built for; none if it does not exist there.
    pub(super) fn wheels(self) -> Vec<&'static Wheel> {
        self.wheels_for(OS, ARCH)
    }

    fn wheels_for(self, os: &str, arch: &str) -> Vec<&'static Wheel> {
        // Wheels of the musl C library do not exist; a program built for it cannot load the others.
        let musl = cfg!(target_env = "musl");
        WHEELS.iter().filter(|wheel| wheel.kit == self && wheel.os == os && wheel.arch == arch && !musl).collect()
    }

    /// A wheel for tests to change.
    #[cfg(test)]
    pub(super) fn any_wheel() -> Wheel {
        LINUX
    }

    /// Where `cache` holds it; nowhere if it does not exist for this machine.
    #[must_use]
    pub fn path(self, cache: &Path) -> Option<PathBuf> {
        // The last wheel is the one that gives the kit its name.
        let platform = self.wheels().last()?.platform;
        Some(cache.join(self.folder()).join(platform))
    }

    /// Names of its libraries' files, in an order in which they can be loaded one after the other.
    #[must_use]
    pub fn libraries(self) -> Vec<&'static str> {
        self.wheels().iter().flat_map(|wheel| wheel.members).map(|member| file_name(member)).collect()
    }

    /// Its libraries with the versions of the packages that they come with.
    pub(crate) fn versions(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let wheels = self.wheels().into_iter();
        wheels.flat_map(|wheel| wheel.members.iter().map(|member| (file_name(member), wheel.version)))
    }

    /// Whether all its libraries are in `folder`.
    #[must_use]
    pub fn is_complete(self, folder: &Path) -> bool {
        let libraries = self.libraries();
        !libraries.is_empty() && libraries.iter().all(|name| folder.join(name).is_file())
    }
}

impl fmt::Display for Kit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}

impl Wheel {
    /// pip's requirement with the hash that it checks.
    pub(super) fn requirement(&self) -> String {
        format!("{}=={} --hash=sha256:{}\n", self.package, self.version, self.sha256)
    }
}

/// The name behind the last slash.
pub(super) fn file_name(member: &str) -> &str {
    member.rsplit('/').next().unwrap_or(member)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wheel_is_pinned() {
        for wheel in &WHEELS {
            assert!(wheel.sha256.len() == 64 && wheel.sha256.bytes().all(|b| b.is_ascii_hexdigit()), "{wheel:?}");
            let start = format!("{}=={} --hash=sha256:", wheel.package, wheel.version);
            assert!(wheel.requirement().starts_with(&start) && !wheel.members.is_empty(), "{wheel:?}");
            let ours = wheel.members.iter().filter(|member| file_name(member).starts_with("libonnxruntime."));
            assert!(ours.clone().all(|member| member.contains(VERSION)), "{wheel:?}");
        }
        let hashes: std::collections::HashSet<_> = WHEELS.iter().map(|wheel| wheel.sha256).collect();
        assert_eq!(hashes.len(), WHEELS.len());
    }

    #[test]
    fn kits_exist_where_their_wheels_do() {
        let count = |kit: Kit, os, arch| kit.wheels_for(os, arch).len();
        assert_eq!([("linux", "x86_64"), ("linux", "aarch64")].map(|(o, a)| count(Kit::OnnxRuntime, o, a)), [1, 1]);
        assert_eq!((count(Kit::OnnxRuntime, "macos", "aarch64"), count(Kit::OnnxRuntime, "windows", "x86_64")), (1, 0));
        assert_eq!((count(Kit::Cuda, "linux", "x86_64"), count(Kit::Cuda, "macos", "aarch64")), (6, 0));
        assert_eq!(count(Kit::TensorRt, "linux", "x86_64"), 1);
        for kit in Kit::ALL {
            let names: Vec<_> = kit.libraries();
            let distinct: std::collections::HashSet<_> = names.iter().collect();
            assert_eq!(distinct.len(), names.len(), "{kit}");
            assert!(kit.title().contains(if kit == Kit::TensorRt { TENSORRT_RTX_VERSION } else { VERSION }));
        }
    }

    #[test]
    fn the_names_of_single_libraries_are_in_the_kit() {
        let members: Vec<_> =
            WHEELS.iter().filter(|wheel| wheel.kit == Kit::TensorRt).flat_map(|w| w.members).collect();
        for name in [PLUGIN, TENSORRT_RTX, TENSORRT_RTX_PARSER] {
            assert!(members.iter().any(|member| file_name(member) == name), "{name}");
        }
    }
}
