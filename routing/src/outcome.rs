use starling_proto::ErrorCode;

/// What a try says of the endpoint that it went to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered: the latency counts, and the failures before are forgotten.
    Served,
    /// It failed: it counts at a penalty latency and towards ejection.
    Failed,
    /// It had not answered when the caller's patience ended: the wait may raise its latency, and does not count towards
    /// ejection, since a caller may be as impatient as it likes.
    Unanswered,
    /// It says nothing of the endpoint: the caller was at fault, or the mesh.
    Unrelated,
}

impl Outcome {
    /// What an HTTP status of the application says: 5xx is a failure, except 501 and 505, which are about the request.
    #[must_use]
    pub const fn of_status(status: u16) -> Self {
        match status {
            501 | 505 => Self::Unrelated,
            500..=599 => Self::Failed,
            _ => Self::Served,
        }
    }

    /// What a status of gRPC says: that the server could not, or was not able to say why.
    #[must_use]
    pub const fn of_grpc(status: u16) -> Self {
        const UNKNOWN: u16 = 2;
        const DEADLINE_EXCEEDED: u16 = 4;
        const INTERNAL: u16 = 13;
        const UNAVAILABLE: u16 = 14;
        const DATA_LOSS: u16 = 15;
        match status {
            UNKNOWN | INTERNAL | UNAVAILABLE | DATA_LOSS => Self::Failed,
            DEADLINE_EXCEEDED => Self::Unanswered,
            _ => Self::Served,
        }
    }

    /// What a failure of the mesh says.
    #[must_use]
    pub const fn of_error(error: ErrorCode) -> Self {
        match error {
            // About the request, its caller or the mesh as a whole.
            ErrorCode::BadRequest
            | ErrorCode::HeaderTooLarge
            | ErrorCode::NotAMeshName
            | ErrorCode::NoRoute
            | ErrorCode::NoSuchService
            | ErrorCode::NoEndpoint
            | ErrorCode::Refused
            | ErrorCode::Internal => Self::Unrelated,
            ErrorCode::Deadline | ErrorCode::Cancelled => Self::Unanswered,
            _ => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_tells_the_endpoint_from_the_request() {
        for (status, outcome) in [
            (0, Outcome::Served),
            (200, Outcome::Served),
            (304, Outcome::Served),
            (404, Outcome::Served),
            (429, Outcome::Served),
            (500, Outcome::Failed),
            (501, Outcome::Unrelated),
            (503, Outcome::Failed),
            (505, Outcome::Unrelated),
            (599, Outcome::Failed),
            (600, Outcome::Served),
        ] {
            assert_eq!(Outcome::of_status(status), outcome, "{status}");
        }
    }

    #[test]
    fn a_status_of_grpc_tells_a_server_that_failed_from_one_that_refused() {
        for (status, outcome) in [
            (0, Outcome::Served),
            (2, Outcome::Failed),
            (4, Outcome::Unanswered),
            (5, Outcome::Served),
            (7, Outcome::Served),
            (12, Outcome::Served),
            (14, Outcome::Failed),
            (99, Outcome::Served),
        ] {
            assert_eq!(Outcome::of_grpc(status), outcome, "{status}");
        }
    }

    #[test]
    fn an_error_of_the_caller_never_counts_against_the_endpoint() {
        use ErrorCode as E;
        let unrelated = [
            E::BadRequest,
            E::HeaderTooLarge,
            E::NotAMeshName,
            E::NoRoute,
            E::NoSuchService,
            E::NoEndpoint,
            E::Refused,
            E::Internal,
        ];
        for error in ErrorCode::ALL {
            let expected = match error {
                E::Deadline | E::Cancelled => Outcome::Unanswered,
                error if unrelated.contains(error) => Outcome::Unrelated,
                _ => Outcome::Failed,
            };
            assert_eq!(Outcome::of_error(*error), expected, "{error}");
        }
    }
}
