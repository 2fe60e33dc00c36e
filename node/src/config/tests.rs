mod bad_files;
mod layers;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::*;

/// A machine that is the same everywhere.
fn host() -> Host {
    Host {
        name: Some("this-host".to_owned()),
        address: Some(IpAddr::from([10, 0, 0, 9])),
        cores: NonZeroUsize::new(4).unwrap(),
    }
}

/// A directory with `starling.toml` in it.
struct Files(tempfile::TempDir);

impl Files {
    fn new(main: &str) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.with("starling.toml", main)
    }

    fn with(self, name: &str, text: &str) -> Self {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn sources(&self) -> Sources {
        Sources { file: Some(self.path("starling.toml")), ..Sources::default() }
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        load(&self.sources(), &host())
    }

    /// The errors as a user sees them, without the directory.
    fn errors(&self) -> String {
        let error = self.load().map(|loaded| loaded.config).unwrap_err().to_string();
        error.replace(&format!("{}/", self.0.path().display()), "")
    }
}
