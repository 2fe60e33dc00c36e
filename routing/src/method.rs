/// May a request with this method be sent twice? The idempotent methods of RFC 9110, section 9.2.2.
///
/// Case matters (section 9.1). A method that is not known there may do anything twice, so it is not idempotent.
#[must_use]
pub fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE")
}

#[cfg(test)]
mod tests {
    use super::is_idempotent;

    #[test]
    fn only_the_methods_that_the_rfc_names_are_idempotent() {
        for yes in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"] {
            assert!(is_idempotent(yes), "{yes}");
        }
        for no in ["POST", "PATCH", "CONNECT", "get", "PROPFIND", ""] {
            assert!(!is_idempotent(no), "{no}");
        }
    }
}
