//! Getting traffic in: what `starling capture install` does to a host, how a captured connection tells where it
//! wanted to go, and the listeners on VIPs of a host where nothing is installed.
//!
//! - [`install`], [`uninstall`], [`status`]: an nftables table of our own and a resolver entry; idempotent
//! - [`original_destination`], [`redirect_works`], [`answer_probe`]: what the agent needs of it, without privilege
//! - [`VipListeners`]: one listener for each VIP and port where the redirect is missing

mod flag;
mod install;
mod original;
mod port_holder;
mod probe;
mod resolv_conf;
mod resolver;
mod ruleset;
mod selection;
mod vip_listeners;

pub(crate) use flag::{Families, Flag};
pub use install::{CaptureConfig, CaptureError, Report, Status, install, rules, status, uninstall};
pub use original::original_destination;
pub(crate) use port_holder::socket_address;
pub use port_holder::{PortHolder, holder_of};
pub use probe::{answer_probe, is_probe, redirect_works};
pub use resolv_conf::ResolvConf;
pub use resolver::{ResolverError, ResolverKind, ResolverPaths};
pub use ruleset::NftError;
pub(crate) use selection::network;
pub use selection::{Selection, Standing};
pub use vip_listeners::{VipBindError, VipChanges, VipListeners};
