//! The provider of an API: by host, else by what shows the software of the server.
//!
//! Values are the well-known ones of `gen_ai.provider.name`; for what has none, ours are: `together_ai`,
//! `fireworks_ai`, `openrouter`, `huggingface`, `nvidia`, `cerebras`, `zai`, `snowflake`, `alibaba_cloud`,
//! `sambanova`, `nebius`, `novita`, `baseten`, `replicate`, `voyageai`, `jina`, `writer`, `deepinfra`, `hyperbolic`, `cloudflare`, `ollama_cloud`,
//! `aws.sagemaker`, `roboflow`, and for self-hosted servers `vllm`, `sglang`, `llama_cpp`, `ollama`, `tgi`, `tei`, `triton`, `litellm`, `qdrant`, `chroma`, `milvus`, `pinecone`,
//! `weaviate`.

use tokentap_wire::Headers;

pub(crate) const ALIBABA_CLOUD: &str = "alibaba_cloud";
pub(crate) const ANTHROPIC: &str = "anthropic";
pub(crate) const AZURE_INFERENCE: &str = "azure.ai.inference";
pub(crate) const AZURE_OPENAI: &str = "azure.ai.openai";
pub(crate) const BEDROCK: &str = "aws.bedrock";
pub(crate) const CHROMA: &str = "chroma";
pub(crate) const COHERE: &str = "cohere";
pub(crate) const GEMINI: &str = "gcp.gemini";
pub(crate) const GROQ: &str = "groq";
pub(crate) const HUGGING_FACE: &str = "huggingface";
pub(crate) const JINA: &str = "jina";
pub(crate) const LLAMA_CPP: &str = "llama_cpp";
pub(crate) const MILVUS: &str = "milvus";
pub(crate) const MISTRAL: &str = "mistral_ai";
pub(crate) const NVIDIA: &str = "nvidia";
pub(crate) const OLLAMA: &str = "ollama";
pub(crate) const OPENAI: &str = "openai";
pub(crate) const PINECONE: &str = "pinecone";
pub(crate) const QDRANT: &str = "qdrant";
pub(crate) const REPLICATE: &str = "replicate";
pub(crate) const ROBOFLOW: &str = "roboflow";
pub(crate) const SAGEMAKER: &str = "aws.sagemaker";
pub(crate) const SGLANG: &str = "sglang";
pub(crate) const SNOWFLAKE: &str = "snowflake";
pub(crate) const TEI: &str = "tei";
pub(crate) const TGI: &str = "tgi";
pub(crate) const TRITON: &str = "triton";
pub(crate) const VERTEX: &str = "gcp.vertex_ai";
pub(crate) const VLLM: &str = "vllm";
pub(crate) const VOYAGE: &str = "voyageai";
pub(crate) const WATSONX: &str = "ibm.watsonx.ai";
pub(crate) const WEAVIATE: &str = "weaviate";
pub(crate) const XAI: &str = "x_ai";

/// Hosts by exact name, or by suffix where it begins with a dot or dash.
const HOSTS: [(&str, &str); 70] = [
    ("api.openai.com", OPENAI),
    (".api.openai.com", OPENAI),
    (".openai.azure.com", AZURE_OPENAI),
    (".openai.azure.us", AZURE_OPENAI),
    (".cognitiveservices.azure.com", AZURE_OPENAI),
    (".inference.ai.azure.com", AZURE_INFERENCE),
    ("models.inference.ai.azure.com", AZURE_INFERENCE),
    ("models.github.ai", AZURE_INFERENCE),
    ("api.anthropic.com", ANTHROPIC),
    ("claude.googleapis.com", "anthropic"),
    ("generativelanguage.googleapis.com", GEMINI),
    ("aiplatform.googleapis.com", VERTEX),
    ("-aiplatform.googleapis.com", VERTEX),
    (".rep.googleapis.com", VERTEX),
    ("api.cohere.com", COHERE),
    ("api.cohere.ai", COHERE),
    ("api.mistral.ai", MISTRAL),
    ("codestral.mistral.ai", MISTRAL),
    ("api.groq.com", GROQ),
    ("api.deepseek.com", "deepseek"),
    ("api.x.ai", XAI),
    (".api.x.ai", XAI),
    ("api.perplexity.ai", "perplexity"),
    ("api.moonshot.ai", "moonshot_ai"),
    ("api.moonshot.cn", "moonshot_ai"),
    (".ml.cloud.ibm.com", WATSONX),
    ("api.together.xyz", "together_ai"),
    ("api.together.ai", "together_ai"),
    ("api.fireworks.ai", "fireworks_ai"),
    ("openrouter.ai", "openrouter"),
    ("router.huggingface.co", HUGGING_FACE),
    ("api-inference.huggingface.co", HUGGING_FACE),
    (".endpoints.huggingface.cloud", HUGGING_FACE),
    ("integrate.api.nvidia.com", NVIDIA),
    ("ai.api.nvidia.com", NVIDIA),
    ("api.cerebras.ai", "cerebras"),
    ("api.z.ai", "zai"),
    ("open.bigmodel.cn", "zai"),
    (".snowflakecomputing.com", SNOWFLAKE),
    ("dashscope.aliyuncs.com", ALIBABA_CLOUD),
    ("dashscope-intl.aliyuncs.com", ALIBABA_CLOUD),
    ("dashscope-us.aliyuncs.com", ALIBABA_CLOUD),
    ("dashscope-finance.aliyuncs.com", ALIBABA_CLOUD),
    (".maas.aliyuncs.com", ALIBABA_CLOUD),
    ("api.sambanova.ai", "sambanova"),
    ("api.studio.nebius.ai", "nebius"),
    ("api.studio.nebius.com", "nebius"),
    ("api.novita.ai", "novita"),
    ("inference.baseten.co", "baseten"),
    ("api.deepinfra.com", "deepinfra"),
    ("api.hyperbolic.xyz", "hyperbolic"),
    ("gateway.ai.cloudflare.com", "cloudflare"),
    ("api.cloudflare.com", "cloudflare"),
    ("ollama.com", "ollama_cloud"),
    ("api.llama.com", "meta"),
    ("api.voyageai.com", VOYAGE),
    (".pinecone.io", PINECONE),
    (".qdrant.io", QDRANT),
    (".zillizcloud.com", MILVUS),
    (".weaviate.cloud", WEAVIATE),
    (".weaviate.network", WEAVIATE),
    ("api.trychroma.com", CHROMA),
    ("api.jina.ai", JINA),
    ("api.replicate.com", REPLICATE),
    (".replicate.net", REPLICATE),
    ("api.writer.com", "writer"),
    ("detect.roboflow.com", ROBOFLOW),
    ("infer.roboflow.com", ROBOFLOW),
    ("serverless.roboflow.com", ROBOFLOW),
    ("api-inference.huggingface.co", HUGGING_FACE),
];

/// The provider that has this host (in lower case).
pub(crate) fn by_host(host: &str, path: &str) -> Option<&'static str> {
    let known = HOSTS.iter().find(|(pattern, _)| is_host(pattern, host));
    known.map(|(_, provider)| *provider).or_else(|| by_cloud_host(host, path))
}

/// Whether a host is meant by an exact name, or by the end of one, which begins with a dot or dash.
pub(crate) fn is_host(pattern: &str, host: &str) -> bool {
    match pattern.as_bytes()[0] {
        b'.' | b'-' => host.ends_with(pattern),
        _ => host == pattern,
    }
}

/// Hosts that contain a region, or serve several APIs.
fn by_cloud_host(host: &str, path: &str) -> Option<&'static str> {
    let aws =
        host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn") || host.ends_with(".api.aws");
    if aws && host.starts_with("runtime.sagemaker") {
        Some(SAGEMAKER)
    } else if aws && host.contains("bedrock") {
        Some(BEDROCK)
    } else if host.starts_with("aws-external-anthropic.") && aws {
        Some("anthropic")
    } else if host.ends_with(".services.ai.azure.com") {
        Some(match path {
            _ if path.starts_with("/anthropic/") => "anthropic",
            _ if path.starts_with("/models/") => AZURE_INFERENCE,
            _ => AZURE_OPENAI,
        })
    } else {
        None
    }
}

/// The software or provider that response headers show.
pub(crate) fn by_headers(headers: &Headers<'_>) -> Option<&'static str> {
    let server = headers.get("server").unwrap_or_default();
    if server.starts_with(b"llama.cpp") {
        return Some(LLAMA_CPP);
    }
    const MARKS: [(&str, &str); 10] = [
        ("x-generation-id", "openrouter"),
        ("x-ds-trace-id", "deepseek"),
        ("fireworks-server-processing-time", "fireworks_ai"),
        ("x-compute-tokens", TEI),
        ("x-compute-type", TGI),
        ("x-litellm-model-id", "litellm"),
        ("x-litellm-call-id", "litellm"),
        ("x-ms-deployment-name", AZURE_OPENAI),
        ("anthropic-organization-id", "anthropic"),
        ("openai-processing-ms", OPENAI),
    ];
    MARKS.iter().find(|(name, _)| headers.get(name).is_some()).map(|(_, provider)| *provider)
}

/// The software that a `system_fingerprint` shows.
pub(crate) fn by_fingerprint(fingerprint: &str) -> Option<&'static str> {
    if fingerprint == "fp_ollama" {
        return Some(OLLAMA);
    }
    if fingerprint.ends_with("-native") {
        return Some(TGI);
    }
    // llama.cpp's is `b<build>-<commit>`.
    let (build, commit) = fingerprint.strip_prefix('b')?.split_once('-')?;
    let digits = !build.is_empty() && build.bytes().all(|b| b.is_ascii_digit());
    let hex = !commit.is_empty() && commit.bytes().all(|b| b.is_ascii_hexdigit());
    (digits && hex).then_some(LLAMA_CPP)
}
