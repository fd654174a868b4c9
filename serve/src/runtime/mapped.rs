//! Which file the dynamic linker took for a library.

use std::fs;
use std::path::{Path, PathBuf};

/// The file of this process's loaded library whose name starts with `name`; links are followed, so the file's name often
/// tells the full version. None where the system does not tell.
#[must_use]
pub(crate) fn mapped(name: &str) -> Option<PathBuf> {
    find(&fs::read_to_string("/proc/self/maps").ok()?, name)
}

/// Looks through lines such as `7f00-7f10 r-xp 0000 fe:00 11 /usr/lib/libz.so.1.2.13`.
fn find(maps: &str, name: &str) -> Option<PathBuf> {
    let file = |line: &str| Some(PathBuf::from(&line[line.find('/')?..]));
    let named = |path: &Path| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name));
    maps.lines().filter_map(file).find(|path| named(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loaded_library_is_found_by_the_start_of_its_name() {
        let maps = "7f00-7f10 r-xp 0000 fe:00 11 /usr/lib/libnvinfer.so.10.13.3\n7f10-7f20 rw-p 0000 00:00 0 [heap]\n";
        assert_eq!(find(maps, "libnvinfer.so.10"), Some("/usr/lib/libnvinfer.so.10.13.3".into()));
        assert_eq!(find(maps, "libcuda.so"), None);
        if cfg!(target_os = "linux") {
            assert!(mapped("libc.so.6").is_some_and(|path| path.is_file()));
        }
    }
}
