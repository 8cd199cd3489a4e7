//! stub
use std::net::IpAddr;
use crate::error::Result;
pub struct Network; impl From<&crate::network::named::NamedNetwork> for Network { fn from(_: &crate::network::named::NamedNetwork)->Self {Network} }
pub struct Member; impl Member { pub fn new(_: &crate::network::bridge::protocol::Joiner, _: &crate::network::bridge::Endpoint)->Self{Member} }
pub struct Table; impl Table { pub fn set_network(&mut self, _: Network){} pub fn remove_network(&mut self, _: &str){} pub fn forget(&mut self,_:&str){} pub fn join(&mut self,_:&str,_:Member){} }
pub struct Responder; impl Responder { pub fn start()->Result<Self>{Ok(Responder)} pub fn set_upstreams(&self,_:&[IpAddr]){} pub fn change(&self, f: impl FnOnce(&mut Table)) {f(&mut Table)} pub fn listen(&self,_:&str,_:&[IpAddr])->Result<()> {Ok(())} pub fn silence(&self,_:&str){} }
