//! The server itself: which method is answered by what, in which eras.
#![expect(
    deprecated,
    reason = "logging and resources/subscribe are what old clients still use"
)]

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CancelTaskParams, CompleteRequestParams,
    CompleteResult, GetPromptRequestParams, GetPromptResponse, GetPromptResult, GetTaskParams,
    GetTaskResult, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult,
    ListToolsResult, PaginatedRequestParams, ProtocolVersion, ReadResourceRequestParams,
    ReadResourceResponse, ReadResourceResult, RequestStateCodec, ServerConfig,
    SetLevelRequestParams, SubscribeRequestParams, SubscriptionFilter, Tool,
    UnsubscribeRequestParams, UpdateTaskParams,
};
use rmcp::service::{RequestContext, SubscriptionContext, SubscriptionSink};
use rmcp::task_manager::TaskManager;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Value, json};

use crate::answers::{cacheable, complete, typed};
use crate::{catalogue, input, questions, tasks, tools};

/// Signs the state that clients carry between rounds. Not secret: nothing here is worth protecting.
const STATE_KEY: &[u8] = b"a key for tests, known to everybody who reads this";

/// Which revisions the server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Era {
    /// Up to 2025-11-25.
    Legacy,
    /// 2026-07-28 alone.
    Modern,
    /// All of them.
    Both,
}

/// One server; clones share everything.
#[derive(Clone)]
pub(crate) struct Conformance {
    era: Era,
    listeners: Arc<Mutex<HashMap<u64, SubscriptionSink>>>,
    next_listener: Arc<AtomicU64>,
    tool_changes: Arc<AtomicU64>,
    prompt_changes: Arc<AtomicU64>,
    /// Seals and opens `requestState`.
    pub(crate) states: RequestStateCodec,
    /// Running tasks.
    pub(crate) tasks: TaskManager,
}

impl Conformance {
    /// A server of one era.
    pub(crate) fn new(era: Era) -> Self {
        Self {
            era,
            listeners: Arc::default(),
            next_listener: Arc::default(),
            tool_changes: Arc::default(),
            prompt_changes: Arc::default(),
            states: RequestStateCodec::new_unchecked(STATE_KEY),
            tasks: TaskManager::new(),
        }
    }

    /// From now on another tool or prompt is listed.
    pub(crate) fn change(&self, tools: bool) {
        let changes = if tools {
            &self.tool_changes
        } else {
            &self.prompt_changes
        };
        changes.fetch_add(1, Ordering::Relaxed);
    }

    /// Everybody listening now.
    pub(crate) fn listeners(&self) -> Vec<SubscriptionSink> {
        let listeners = self.listeners.lock();
        let listeners = listeners.unwrap_or_else(PoisonError::into_inner);
        listeners.values().cloned().collect()
    }
}

impl ServerHandler for Conformance {
    fn get_info(&self) -> ServerConfig {
        let newest = match self.era {
            Era::Legacy => ProtocolVersion::LATEST_WITH_INITIALIZE,
            Era::Modern | Era::Both => ProtocolVersion::V_2026_07_28,
        };
        let extensions = match self.era {
            Era::Legacy => json!({}),
            Era::Modern | Era::Both => json!({"io.modelcontextprotocol/tasks": {}}),
        };
        typed(json!({
            "protocolVersion": newest,
            "capabilities": {
                "tools": {"listChanged": true},
                "prompts": {"listChanged": true},
                "resources": {"subscribe": true, "listChanged": true},
                "completions": {}, "logging": {}, "extensions": extensions
            },
            "serverInfo": {"name": "conformance-fixture", "version": "1.0.0"},
            "instructions": "Answers what the conformance suite asks."
        }))
        .unwrap_or_default()
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        let last_legacy = ProtocolVersion::LATEST_WITH_INITIALIZE;
        match self.era {
            Era::Legacy => Cow::Borrowed(ProtocolVersion::known_up_to(&last_legacy)),
            Era::Modern => Cow::Owned(vec![ProtocolVersion::V_2026_07_28]),
            Era::Both => Cow::Borrowed(ProtocolVersion::KNOWN_VERSIONS),
        }
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        // The SDK checks `Mcp-Param-*` headers of tools it can look up.
        (name == catalogue::CUSTOM_HEADER_TOOL)
            .then(|| typed(catalogue::custom_header_tool()).ok())
            .flatten()
    }

    async fn ping(&self, _context: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn set_level(
        &self,
        _request: SetLevelRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let typed_so_far = &request.argument.value;
        let cities = ["paris", "park", "party"];
        let fitting: Vec<&str> = cities
            .into_iter()
            .filter(|city| city.starts_with(typed_so_far.as_str()))
            .collect();
        complete(json!({"completion": {
            "values": fitting, "total": fitting.len(), "hasMore": false}}))
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        cacheable(json!({"tools": catalogue::tools(self.tool_changes.load(Ordering::Relaxed))}))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if questions::owns(&request.name) {
            return input::call(self, &request, &context).await;
        }
        if tasks::owns(&request.name) {
            return tasks::call(self, &request, &context).await;
        }
        tools::call(self, request, context).await
    }

    async fn list_resources(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        cacheable(json!({"resources": catalogue::resources()}))
    }

    async fn list_resource_templates(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        cacheable(json!({"resourceTemplates": catalogue::templates()}))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let Some(contents) = catalogue::read(&request.uri) else {
            let data = json!({"uri": request.uri});
            return Err(ErrorData::resource_not_found(
                "no such resource",
                Some(data),
            ));
        };
        cacheable::<ReadResourceResult>(json!({"contents": [contents]})).map(Into::into)
    }

    async fn subscribe(
        &self,
        _request: SubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn unsubscribe(
        &self,
        _request: UnsubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    fn accepted_subscription_filter(
        &self,
        wanted: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        Some(wanted.supported_by(&self.get_info().capabilities))
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let key = self.next_listener.fetch_add(1, Ordering::Relaxed);
        let listeners = || {
            self.listeners
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        listeners().insert(key, context.sink().clone());
        context.cancelled().await;
        listeners().remove(&key);
        Ok(())
    }

    async fn list_prompts(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        cacheable(
            json!({"prompts": catalogue::prompts(self.prompt_changes.load(Ordering::Relaxed))}),
        )
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        if request.name == input::PROMPT {
            return input::prompt(&request, &context).await;
        }
        let arguments = request.arguments.unwrap_or_default();
        let argument = |name: &str| {
            let value = arguments.get(name).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        let Some(messages) = catalogue::prompt(&request.name, argument) else {
            return Err(ErrorData::invalid_params("no such prompt", None));
        };
        complete::<GetPromptResult>(json!({"messages": messages})).map(Into::into)
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        self.tasks
            .get_task(&request.task_id)
            .map(GetTaskResult::new)
    }

    async fn update_task(
        &self,
        request: UpdateTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.tasks
            .update_task(&request.task_id, request.input_responses)
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.tasks.cancel_task(&request.task_id)
    }
}
