//! A file of kernels, compiled for the processor.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_uint, c_void};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Result, bail};
use libloading::Library;

use super::super::{Launch, Source};

const HEADERS: [(&str, &str); 2] =
    [("emulator.h", include_str!("emulator.h")), ("common.cuh", include_str!("../cu/common.cuh"))];

type Entry = unsafe extern "C" fn(*mut *mut c_void, *const c_uint, c_uint, usize, c_int) -> c_int;

/// A library in which one block runs at a time.
pub(super) struct Compiled(Mutex<Library>);

static COMPILED: Mutex<BTreeMap<&str, Arc<Compiled>>> = Mutex::new(BTreeMap::new());

impl Compiled {
    /// The file's kernels, compiled when they are first asked for.
    pub(super) fn of(source: &'static Source) -> Result<Arc<Self>> {
        let mut all = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(compiled) = all.get(source.name) {
            return Ok(compiled.clone());
        }
        let compiled = Arc::new(Self(Mutex::new(compile(source)?)));
        all.insert(source.name, compiled.clone());
        Ok(compiled)
    }

    /// Runs a kernel; `false` if it cannot end.
    pub(super) fn run(
        &self,
        function: &str,
        arguments: &mut [*mut c_void],
        launch: Launch,
        backwards: bool,
    ) -> Result<bool> {
        let library = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let grid = launch.grid.map(|blocks| blocks as c_uint);
        // SAFETY: the macro ENTRY defines functions of this type, and arguments are as many as the kernel's, of its types.
        #[allow(unsafe_code)]
        let status = unsafe {
            match library.get::<Entry>(format!("run_{function}").as_bytes()) {
                Ok(entry) => entry(
                    arguments.as_mut_ptr(),
                    grid.as_ptr(),
                    launch.threads as c_uint,
                    launch.shared,
                    c_int::from(backwards),
                ),
                Err(error) => bail!("kernel {function}: {error}"),
            }
        };
        Ok(status == 0)
    }
}

/// The names of a file's kernels.
fn functions(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.strip_prefix("KERNEL void ")?.split('(').next())
}

fn compile(source: &Source) -> Result<Library> {
    let folder = tempfile::tempdir()?;
    for (name, text) in HEADERS {
        std::fs::write(folder.path().join(name), text)?;
    }
    let entries: String = functions(source.text).map(|name| format!("ENTRY({name})\n")).collect();
    let (file, library) = (folder.path().join("kernels.cpp"), folder.path().join("kernels.so"));
    std::fs::write(&file, format!("#include \"emulator.h\"\n{}\n{entries}", source.text))?;
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let output = Command::new(&compiler)
        .args(["-std=c++17", "-O1", "-fPIC", "-shared", "-w", "-o"])
        .args([&library, &file])
        .output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) => bail!("{}.cu: {}", source.name, String::from_utf8_lossy(&output.stderr)),
        Err(error) => bail!("{}, which the emulator compiles kernels with: {error}", compiler.display()),
    }
    // SAFETY: it was compiled just now, from this crate's own source, and does nothing when it is opened.
    #[allow(unsafe_code)]
    let opened = unsafe { Library::new(&library) };
    opened.map_err(|error| candle_core::Error::Msg(format!("{}.cu: {error}", source.name)))
}
