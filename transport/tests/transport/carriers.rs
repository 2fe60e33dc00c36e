//! One suite, two carriers.

/// Runs each of these, which take the carrier to use, over QUIC and over TCP.
macro_rules! over_each_carrier {
    ($($name:ident),+ $(,)?) => {
        mod over_quic {
            $(#[tokio::test]
            async fn $name() {
                super::$name(starling_transport::Carriers::Quic).await;
            })+
        }
        mod over_tcp {
            $(#[tokio::test]
            async fn $name() {
                super::$name(starling_transport::Carriers::Tcp).await;
            })+
        }
    };
}
pub(crate) use over_each_carrier;
