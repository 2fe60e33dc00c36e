//! A mesh on disk, nodes out of it, and patience.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use starling_proto::{ServicePattern, SpiffeId};
use starling_transport::{
    Alpn, Carriers, Connection, Dialer, Identity, Incoming, Limits, Listener, RecvHalf, SendHalf, Tls, ca,
};
use tempfile::TempDir;

/// Far more than anything here takes; only a fault waits for it.
const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const CONNECT: Duration = Duration::from_secs(5);
pub(crate) const DOMAIN: &str = "demo.example";

/// Fails the test if `future` takes too long.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("too long: {what}"))
}

/// Looks at a condition again and again until it holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    soon(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// An authority in a directory of its own.
pub(crate) struct Mesh {
    dir: TempDir,
}

impl Mesh {
    pub(crate) fn new() -> Self {
        Self::of(DOMAIN)
    }

    pub(crate) fn of(domain: &str) -> Self {
        let dir = TempDir::new().unwrap();
        ca::init(&dir.path().join("ca"), &domain.parse().unwrap()).unwrap();
        Self { dir }
    }

    pub(crate) fn authority(&self) -> PathBuf {
        self.dir.path().join("ca")
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// What `starling ca issue` does for a node.
    pub(crate) fn request(&self, name: &str, services: &[&str]) -> ca::IssueRequest {
        ca::IssueRequest {
            dir: self.authority(),
            name: name.to_owned(),
            services: services.iter().map(|text| text.parse::<ServicePattern>().unwrap()).collect(),
            ttl: Duration::from_hours(1),
            out: self.dir.path().join(name),
            force: false,
        }
    }

    pub(crate) fn identity(&self, name: &str, services: &[&str]) -> Identity {
        let request = self.request(name, services);
        if !request.out.exists() {
            ca::issue(&request).unwrap();
        }
        Identity::load(&request.out).unwrap()
    }

    pub(crate) fn tls(&self, name: &str) -> Tls {
        Tls::try_new(&self.identity(name, &["web", "shop/*"])).unwrap()
    }

    pub(crate) fn listener(&self, name: &str) -> Listener {
        Listener::bind("127.0.0.1:0".parse().unwrap(), &self.tls(name), &Limits::default()).unwrap()
    }

    pub(crate) fn dialer(&self, name: &str) -> Dialer {
        self.dialer_over(name, Carriers::Both)
    }

    pub(crate) fn dialer_over(&self, name: &str, carriers: Carriers) -> Dialer {
        let limits = Limits { carriers, ..Limits::default() };
        Dialer::bind("127.0.0.1".parse().unwrap(), &self.tls(name), &limits).unwrap()
    }

    pub(crate) fn spiffe(name: &str) -> SpiffeId {
        format!("spiffe://{DOMAIN}/node/{name}").parse().unwrap()
    }
}

/// Two ends of one data connection.
pub(crate) struct Pair {
    pub(crate) near: Connection,
    pub(crate) far: Connection,
    pub(crate) dialer: Dialer,
    /// Not accepting any more, but its endpoint must live.
    _listener: Listener,
}

impl Pair {
    pub(crate) async fn new(mesh: &Mesh, over: Carriers) -> Self {
        let (mut listener, dialer) = (mesh.listener("web-1"), mesh.dialer_over("web-2", over));
        let address = listener.local_addr();
        let expected = Mesh::spiffe("web-1");
        let dial = dialer.connect(address, Some(&expected), Alpn::Data, CONNECT);
        let (near, far) = soon("a connection", async { tokio::join!(dial, listener.accept()) }).await;
        let Some(Incoming::Data(far)) = far else { panic!("no data connection") };
        Self { near: near.unwrap(), far, dialer, _listener: listener }
    }

    /// A stream, both ends of it, after the first message `hello`.
    pub(crate) async fn stream(&self) -> ((SendHalf, RecvHalf), (SendHalf, RecvHalf)) {
        let mut near = self.near.open().await.unwrap();
        near.0.write_raw(bytes::Bytes::from_static(b"hello")).await.unwrap();
        let mut far = soon("a stream", self.far.accept()).await.unwrap();
        assert_eq!(far.1.read_raw(5).await.unwrap().unwrap(), "hello");
        (near, far)
    }
}

/// Serves every stream of every connection: reads it to its end and answers with what `answer` says, raw.
pub(crate) async fn serve(mut listener: Listener, answer: impl Fn(&Connection) -> Vec<u8> + Clone + Send + 'static) {
    while let Some(incoming) = listener.accept().await {
        let (Incoming::Data(connection) | Incoming::Control(connection)) = incoming;
        let answer = answer.clone();
        tokio::spawn(async move {
            while let Some((mut send, mut recv)) = connection.accept().await {
                let answer = answer(&connection);
                tokio::spawn(async move {
                    while let Ok(Some(_)) = recv.read_raw(usize::MAX).await {}
                    send.write_raw(answer.into()).await?;
                    send.finish()
                });
            }
        });
    }
}

/// One request to [`serve`], and its answer.
pub(crate) async fn ask(connection: &Connection) -> Result<Vec<u8>, starling_transport::StreamError> {
    let (mut send, mut recv) = connection.open().await?;
    send.write_raw(bytes::Bytes::from_static(b"?")).await?;
    send.finish()?;
    let mut answer = Vec::new();
    while let Some(bytes) = recv.read_raw(usize::MAX).await? {
        answer.extend_from_slice(&bytes);
    }
    Ok(answer)
}
