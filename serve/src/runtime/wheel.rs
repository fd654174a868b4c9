//! The Python wheels that carry the library, pinned by hash.

use std::env::consts::{ARCH, OS};

/// The version of ONNX Runtime that is downloaded.
pub const VERSION: &str = "1.31.1";

/// One wheel of [`VERSION`] on PyPI.
#[derive(Debug)]
pub(super) struct Wheel {
    os: &'static str,
    arch: &'static str,
    /// pip's name of the platform.
    pub(super) platform: &'static str,
    /// SHA-256 of the wheel.
    pub(super) sha256: &'static str,
    /// The library inside of it.
    pub(super) member: &'static str,
    /// Size of the download in megabytes, for the message.
    pub(super) megabytes: u32,
}

const WHEELS: [Wheel; 3] = [
    Wheel {
        os: "linux",
        arch: "x86_64",
        platform: "manylinux_2_28_x86_64",
        sha256: "5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f",
        member: "onnxruntime/capi/libonnxruntime.so.1.31.1",
        megabytes: 24,
    },
    Wheel {
        os: "linux",
        arch: "aarch64",
        platform: "manylinux_2_28_aarch64",
        sha256: "da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3",
        member: "onnxruntime/capi/libonnxruntime.so.1.31.1",
        megabytes: 21,
    },
    Wheel {
        os: "macos",
        arch: "aarch64",
        platform: "macosx_14_0_arm64",
        sha256: "60b6b69bfe580eab576cacc5d132a0e9cf2a37fcfd18d46dd191042b1d1ed0d7",
        member: "onnxruntime/capi/libonnxruntime.1.31.1.dylib",
        megabytes: 21,
    },
];

impl Wheel {
    /// Name of the library's file.
    pub(super) fn file_name(&self) -> &'static str {
        self.member.rsplit('/').next().unwrap_or(self.member)
    }

    /// pip's requirement with the hash that it checks.
    pub(super) fn requirement(&self) -> String {
        format!("onnxruntime=={VERSION} --hash=sha256:{}\n", self.sha256)
    }
}

/// The wheel for the machine that this program was built for.
pub(super) fn for_this_platform() -> Option<&'static Wheel> {
    // Wheels of the musl C library do not exist; a program built for it cannot load the others.
    let musl = cfg!(target_env = "musl");
    WHEELS.iter().find(|wheel| wheel.os == OS && wheel.arch == ARCH && !musl)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wheel_is_pinned_to_the_version() {
        for wheel in &WHEELS {
            assert!(wheel.file_name().starts_with("libonnxruntime.") && wheel.member.contains(VERSION), "{wheel:?}");
            assert!(wheel.sha256.len() == 64 && wheel.sha256.bytes().all(|b| b.is_ascii_hexdigit()), "{wheel:?}");
            assert!(wheel.requirement().starts_with("onnxruntime==1.31.1 --hash=sha256:"));
        }
    }
}
