//! What one rule says, apart from its host pattern.

use std::net::IpAddr;
use std::sync::Arc;

use http::Method;
use ipnet::IpNet;

use crate::host::Scheme;
use crate::policy::Question;
use crate::policy::place::Place;
use crate::policy::tunnel::{PastRoutes, TunnelTerms};
use crate::refusal::Refusal;
use crate::rules::path::PathGlobs;

/// A rule with what people want to know of it.
#[derive(Clone, Debug)]
pub struct Written<T> {
    /// Its pattern as written.
    pub label: Arc<str>,
    /// Where it stands.
    pub place: Place,
    /// What it says, the hosts apart.
    pub terms: T,
}

/// What an allow rule says.
#[derive(Clone, Debug, PartialEq)]
pub struct AllowRule {
    /// Ports, at least one.
    pub ports: Vec<u16>,
    /// Ways of access, at least one.
    pub access: Vec<Access>,
    /// Methods, or all. A rule that limits methods or paths never allows a tunnel.
    pub methods: Option<Vec<Method>>,
    /// Globs over the path, or all.
    pub paths: Option<PathGlobs>,
    /// What is asked of the first words in a tunnel.
    pub tunnel: TunnelTerms,
}

/// What a deny rule says.
#[derive(Clone, Debug, PartialEq)]
pub struct DenyRule {
    /// Ports, or all.
    pub ports: Option<Vec<u16>>,
    /// Ways of access, or all.
    pub access: Option<Vec<Access>>,
    /// Methods, or all.
    pub methods: Option<Vec<Method>>,
    /// Globs over the path, or all.
    pub paths: Option<PathGlobs>,
}

/// How a destination is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// CONNECT: opaque to the proxy.
    Tunnel,
    /// Absolute-form with this scheme.
    Forward(Scheme),
}

/// Lets hosts that match resolve into an internal range, on certain ports.
#[derive(Clone, Debug)]
pub struct PrivateException {
    cidr: IpNet,
    ports: Option<Vec<u16>>,
}

impl AllowRule {
    /// Ok, or the number of the step that failed with its refusal.
    pub(super) fn verdict(&self, question: &Question<'_>) -> Result<(), (u8, Refusal)> {
        if !self.ports.contains(&question.at.port) {
            return Err((1, Refusal::PortNotAllowed));
        }
        if !self.access.contains(&question.access) {
            return Err((2, Refusal::SchemeNotAllowed));
        }
        let Some((method, path)) = question.request else {
            // A tunnel shows neither method nor path, so a rule that limits them cannot allow it.
            let limited = self.methods.is_some() || self.paths.is_some();
            return match self.tunnel.past_routes {
                _ if limited => Err((2, Refusal::SchemeNotAllowed)),
                PastRoutes::Refused if question.routed => Err((3, Refusal::UseRoute)),
                PastRoutes::Refused | PastRoutes::Allowed => Ok(()),
            };
        };
        if self.methods.as_ref().is_some_and(|methods| !methods.contains(method)) {
            return Err((3, Refusal::MethodNotAllowed));
        }
        match &self.paths {
            Some(paths) if !paths.matches(path) => Err((4, Refusal::PathNotAllowed)),
            _ => Ok(()),
        }
    }
}

impl AllowRule {
    /// Whether it allows everything that the other does, the hosts apart.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let methods = match (&self.methods, &other.methods) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(others)) => others.iter().all(|method| own.contains(method)),
        };
        other.ports.iter().all(|port| self.ports.contains(port))
            && other.access.iter().all(|access| self.access.contains(access))
            && methods
            && self.tunnel == other.tunnel
            && (self.paths.is_none() || self.paths == other.paths)
    }
}

impl DenyRule {
    /// Whether it denies everything that the other does, the hosts apart.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let ports = match (&self.ports, &other.ports) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(others)) => others.iter().all(|port| own.contains(port)),
        };
        let equal = self.access == other.access
            && self.methods == other.methods
            && self.paths == other.paths;
        ports && (self.is_whole() || equal)
    }

    /// Whether it is about this port.
    pub(super) fn has_port(&self, port: u16) -> bool {
        self.ports.as_ref().is_none_or(|ports| ports.contains(&port))
    }

    /// Whether it denies everything on its ports.
    pub(super) const fn is_whole(&self) -> bool {
        self.access.is_none() && self.methods.is_none() && self.paths.is_none()
    }

    /// Whether it denies this. What cannot be seen, or can be read in two ways, is taken for what is
    /// denied.
    pub(super) fn hits(&self, question: &Question<'_>) -> bool {
        let access = self.access.as_ref().is_none_or(|access| access.contains(&question.access));
        let seen = question.request.is_none_or(|(method, path)| {
            self.methods.as_ref().is_none_or(|methods| methods.contains(method))
                && self.paths.as_ref().is_none_or(|paths| paths.match_any_reading(path))
        });
        self.has_port(question.at.port) && access && seen
    }
}

impl PrivateException {
    /// Makes an exception; no ports means every port.
    #[must_use]
    pub const fn new(cidr: IpNet, ports: Option<Vec<u16>>) -> Self {
        Self { cidr, ports }
    }

    /// Whether the address and port are inside. The host has been matched before.
    #[must_use]
    pub fn opens(&self, ip: IpAddr, port: u16) -> bool {
        self.cidr.contains(&ip) && self.ports.as_ref().is_none_or(|ports| ports.contains(&port))
    }

    /// The range.
    #[must_use]
    pub const fn cidr(&self) -> IpNet {
        self.cidr
    }

    #[cfg(test)]
    pub(crate) fn for_tests(cidr: IpNet, port: Option<u16>) -> Self {
        Self::new(cidr, port.map(|port| vec![port]))
    }
}
