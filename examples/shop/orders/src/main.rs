//! What was bought: HTTP, with server-sent events of each customer's orders. Asks cart what to sell.
//!
//! `LISTEN` is where it listens, `CART_URL` where cart is.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::broadcast;

/// Events that a reader may be behind before it misses the oldest.
const BEHIND: usize = 64;

type Body = UnsyncBoxBody<Bytes, Infallible>;

struct Shop {
    cart_url: String,
    http: Client<HttpConnector, Empty<Bytes>>,
    ordered: AtomicU64,
    events: broadcast::Sender<Value>,
}

impl Shop {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>> {
        let path = request.uri().path().trim_matches('/');
        match (request.method(), &path.split('/').collect::<Vec<_>>()[..]) {
            (&Method::POST, ["orders", customer]) => self.order(customer).await,
            (&Method::POST, ["orders", customer, order, state @ ("packed" | "shipped")]) => {
                let order: u64 = order.parse().context("an order has a number")?;
                self.tell(&json!({ "customer": customer, "order": order, "state": state }));
                answer(StatusCode::OK, &json!({ "order": order, "state": state }))
            }
            (&Method::GET, ["orders", customer, "events"]) => self.follow((*customer).to_owned()),
            _ => answer(StatusCode::NOT_FOUND, &json!({ "error": "no such page" })),
        }
    }

    /// Buys what is in the customer's cart.
    async fn order(&self, customer: &str) -> Result<Response<Body>> {
        let cart = self.cart(Method::GET, customer).await?;
        if cart["lines"].as_object().is_none_or(serde_json::Map::is_empty) {
            return answer(StatusCode::CONFLICT, &json!({ "error": "the cart is empty" }));
        }
        let order = self.ordered.fetch_add(1, Relaxed) + 1;
        self.cart(Method::DELETE, customer).await?;
        self.tell(&json!({ "customer": customer, "order": order, "state": "received" }));
        answer(StatusCode::CREATED, &json!({ "order": order, "cents": cart["cents"], "lines": cart["lines"] }))
    }

    async fn cart(&self, method: Method, customer: &str) -> Result<Value> {
        let uri = format!("{}/carts/{customer}", self.cart_url);
        let request = Request::builder().method(method).uri(uri).body(Empty::new())?;
        let answer = self.http.request(request).await?;
        anyhow::ensure!(answer.status().is_success(), "cart answered {}", answer.status());
        Ok(serde_json::from_slice(&answer.into_body().collect().await?.to_bytes())?)
    }

    /// To whoever follows; nobody may.
    fn tell(&self, event: &Value) {
        let _ = self.events.send(event.clone());
    }

    fn follow(&self, customer: String) -> Result<Response<Body>> {
        let events = stream::unfold((self.events.subscribe(), customer), async |(mut events, customer)| {
            loop {
                match events.recv().await {
                    Ok(event) if event["customer"] == *customer => {
                        let frame = Frame::data(Bytes::from(format!("data: {event}\n\n")));
                        return Some((Ok(frame), (events, customer)));
                    }
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        let answer = Response::builder().header(header::CONTENT_TYPE, "text/event-stream");
        Ok(answer.body(StreamBody::new(events).boxed_unsync())?)
    }
}

fn answer(status: StatusCode, value: &Value) -> Result<Response<Body>> {
    let answer = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
    Ok(answer.body(Full::from(value.to_string()).boxed_unsync())?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let variable = |name| std::env::var(name).with_context(|| format!("{name} is not set"));
    let shop = Arc::new(Shop {
        cart_url: variable("CART_URL")?,
        http: Client::builder(TokioExecutor::new()).build_http(),
        ordered: AtomicU64::new(0),
        events: broadcast::Sender::new(BEHIND),
    });
    let listener = TcpListener::bind(variable("LISTEN")?).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let shop = Arc::clone(&shop);
        let serve = service_fn(move |request| {
            let shop = Arc::clone(&shop);
            async move {
                shop.answer(request).await.or_else(|error| {
                    eprintln!("{error:#}");
                    answer(StatusCode::BAD_GATEWAY, &json!({ "error": "not now" }))
                })
            }
        });
        tokio::spawn(async move {
            if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), serve).await {
                eprintln!("{error}");
            }
        });
    }
}
