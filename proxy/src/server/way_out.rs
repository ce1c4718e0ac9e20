//! Which upstream proxy is in force: flags and the policy file together, at the start and after each
//! reload.

use std::sync::Arc;

use crate::cli::UpstreamArgs;
use crate::upstream::via::address::ProxyAddressError;
use crate::upstream::via::auth::{AuthFile, AuthFileError};
use crate::upstream::via::{Via, ViaSettings};

/// What the flags say about it.
#[derive(Clone, Debug, Default)]
pub struct WayOut {
    flags: ViaSettings,
    auth: Option<AuthFile>,
}

impl WayOut {
    /// Takes the flags.
    ///
    /// # Errors
    /// `--upstream-proxy` is no address.
    pub fn new(args: &UpstreamArgs) -> Result<Self, ProxyAddressError> {
        let auth = args.upstream_proxy_auth_file.as_deref().map(AuthFile::new);
        Ok(Self { flags: args.via()?, auth })
    }

    /// Reads the credential, so that a mistake is told at the start; warns about settings without
    /// effect.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn check(&self, file: &ViaSettings) -> Result<(), AuthFileError> {
        if let Some(auth) = &self.auth {
            auth.read()?;
        }
        let settings = self.flags.over(file);
        let more = self.auth.is_some() || !settings.bypass.is_empty() || settings.names.is_some();
        if settings.proxy.is_none() && more {
            tracing::warn!(
                "there is no upstream proxy, so what else is said about one means nothing"
            );
        }
        Ok(())
    }

    /// The upstream proxy in force with this policy file.
    #[must_use]
    pub fn via(&self, file: &ViaSettings) -> Option<Arc<Via>> {
        Via::configured(self.flags.over(file), self.auth.clone()).map(Arc::new)
    }
}
