//! What the orchestrator sends at run time: reverse routes with the credentials for them.
//!
//! The life of a document: strict JSON ([`json`]), the two accepted shapes into domain values with
//! every fault named ([`document`]), then one swap of the whole set ([`store`]). Requests take a
//! snapshot and never see half a change.
//!
//! A rule opens its own route and nothing else: its host is not added to what a workspace may reach,
//! and the address guard applies to it. Rules live in memory only.
//!
//! Invariant: a document is applied as a whole or not at all, and no value of a header is shown to
//! anybody after it came in.

pub mod base_url;
pub mod document;
mod fields;
pub mod json;
pub mod lease;
pub mod path;
pub mod rule;
pub mod store;
pub mod view;

pub use self::base_url::{BaseUrl, PlainHttp};
pub use self::document::RuleLimits;
pub use self::rule::{McpRule, Redaction};
pub use self::store::{RuleSet, RuleStore};
