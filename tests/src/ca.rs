//! A certificate authority for one test, and certificates from it, by the openssl program.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// A certificate authority that exists as long as this value.
#[derive(Debug)]
pub struct Ca {
    directory: TempDir,
}

/// A server's certificate and key.
#[derive(Debug)]
pub struct Server {
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}

impl Ca {
    /// Makes the authority.
    ///
    /// # Errors
    /// When openssl fails.
    pub fn new() -> Result<Self> {
        let ca = Self { directory: tempfile::tempdir()? };
        openssl(
            ca.path(),
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
             -keyout ca.key -out ca.pem -subj /CN=test-authority \
             -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign",
        )?;
        Ok(ca)
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The authority's certificate, PEM.
    pub fn certificate(&self) -> PathBuf {
        self.path().join("ca.pem")
    }

    /// A certificate for the server `name`.
    ///
    /// # Errors
    /// When openssl fails.
    pub fn server(&self, name: &str) -> Result<Server> {
        self.server_of(&[name])
    }

    /// A certificate for a server of several names, the first of which names its files.
    ///
    /// # Errors
    /// When openssl fails.
    pub fn server_of(&self, names: &[&str]) -> Result<Server> {
        let name = names.first().context("a server without a name")?;
        let all: Vec<String> = names.iter().map(|name| format!("DNS:{name}")).collect();
        let all = all.join(",");
        openssl(
            self.path(),
            &format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
                 -keyout {name}.key -out {name}.pem -subj /CN={name} -CA ca.pem -CAkey ca.key \
                 -addext subjectAltName={all} -addext basicConstraints=critical,CA:FALSE \
                 -addext extendedKeyUsage=serverAuth"
            ),
        )?;
        let file = |extension| self.path().join(format!("{name}.{extension}"));
        Ok(Server { certificate: file("pem"), key: file("key") })
    }
}

fn openssl(directory: &Path, arguments: &str) -> Result<()> {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "openssl {arguments}: {said}");
    Ok(())
}
