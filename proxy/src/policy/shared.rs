//! Domains under which anybody can have a host: a wildcard there reaches more than its author meant.
//!
//! Unlike a wildcard under a registry it is sometimes wanted, so it is a warning and no error.

use crate::host::Host;

/// Hosting, storage and tunnel services whose customers get a name of their own. The list need not be
/// complete to be of use.
const SHARED: [&str; 38] = [
    "s3.amazonaws.com",
    "compute.amazonaws.com",
    "elb.amazonaws.com",
    "cloudfront.net",
    "on.aws",
    "awsapprunner.com",
    "elasticbeanstalk.com",
    "amplifyapp.com",
    "blob.core.windows.net",
    "azurewebsites.net",
    "azurestaticapps.net",
    "cloudapp.azure.com",
    "azurefd.net",
    "appspot.com",
    "run.app",
    "web.app",
    "firebaseapp.com",
    "storage.googleapis.com",
    "blogspot.com",
    "pages.dev",
    "workers.dev",
    "r2.dev",
    "trycloudflare.com",
    "github.io",
    "githubusercontent.com",
    "github.dev",
    "gitlab.io",
    "vercel.app",
    "netlify.app",
    "herokuapp.com",
    "fly.dev",
    "onrender.com",
    "ngrok.io",
    "ngrok.app",
    "ngrok-free.app",
    "loca.lt",
    "supabase.co",
    "myshopify.com",
];

/// The domain of unrelated owners that everything below `base` takes in, if there is one.
#[must_use]
pub fn shared_below(base: &Host) -> Option<&'static str> {
    let name = base.name()?;
    let inside = |suffix: &&str| {
        *suffix == name || suffix.strip_suffix(name).is_some_and(|front| front.ends_with('.'))
    };
    SHARED.into_iter().find(inside).or_else(|| is_bucket_domain(name).then_some("amazonaws.com"))
}

/// `s3.eu-west-1.amazonaws.com` and its kin, below which every bucket of the region is.
fn is_bucket_domain(name: &str) -> bool {
    name.strip_suffix(".amazonaws.com").is_some_and(|front| {
        let service = front.split('.').next().unwrap_or(front);
        matches!(service, "s3" | "s3-fips" | "s3-website" | "s3-accesspoint" | "execute-api")
            || service.starts_with("s3-website-")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_many_owners_are_known_and_names_of_one_are_not() {
        for (name, expected) in [
            ("github.io", true),
            ("amazonaws.com", true),
            ("s3.amazonaws.com", true),
            ("s3.eu-west-1.amazonaws.com", true),
            ("core.windows.net", true),
            ("mybucket.s3.amazonaws.com", false),
            ("someone.github.io", false),
            ("thub.io", false),
            ("example.com", false),
        ] {
            let base = Host::parse(name).unwrap();
            assert_eq!(shared_below(&base).is_some(), expected, "{name}");
        }
    }
}
