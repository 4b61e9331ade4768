// gRPC echo with grpc++ as it is packaged: the server and the client of bench/cases/grpc.py, which know nothing of libflat.
//   grpcecho server HOST:PORT
//   grpcecho client HOST:PORT OUTSTANDING BYTES SECONDS     prints calls per second and the median in microseconds
// Without generated code: the generic service takes each method, messages are byte buffers.
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

// One call being served: it asks for its successor when it begins, and is gone when it ends.
class Served {
public:
	Served(grpc::AsyncGenericService *service, grpc::ServerCompletionQueue *queue)
	    : service_(service), queue_(queue), stream_(&context_)
	{
		service->RequestCall(&context_, &stream_, queue, queue, this);
	}

	void Next(bool ok)
	{
		switch (state_) {
		case State::kCalled:
			if (!ok) {
				delete this;
				return;
			}
			new Served(service_, queue_);
			state_ = State::kRead;
			stream_.Read(&message_, this);
			return;
		case State::kRead:
			state_ = State::kDone;
			if (ok)
				stream_.WriteAndFinish(message_, grpc::WriteOptions(), grpc::Status::OK,
						       this);
			else
				stream_.Finish(grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "no message"),
					       this);
			return;
		case State::kDone:
			delete this;
			return;
		}
	}

private:
	enum class State { kCalled, kRead, kDone };

	grpc::AsyncGenericService *service_;
	grpc::ServerCompletionQueue *queue_;
	grpc::GenericServerContext context_;
	grpc::GenericServerAsyncReaderWriter stream_;
	grpc::ByteBuffer message_;
	State state_ = State::kCalled;
};

int Serve(const char *address)
{
	grpc::AsyncGenericService service;
	grpc::ServerBuilder builder;
	int port = 0;

	builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
	builder.RegisterAsyncGenericService(&service);
	auto queue = builder.AddCompletionQueue();
	auto server = builder.BuildAndStart();
	if (!server || port == 0) {
		std::fprintf(stderr, "grpcecho: cannot listen at %s\n", address);
		return 1;
	}
	for (int i = 0; i < 256; i++)
		new Served(&service, queue.get());
	void *tag;
	bool ok;
	while (queue->Next(&tag, &ok))
		static_cast<Served *>(tag)->Next(ok);
	return 0;
}

struct Call {
	std::unique_ptr<grpc::ClientContext> context;
	std::unique_ptr<grpc::GenericClientAsyncResponseReader> reader;
	grpc::ByteBuffer answer;
	grpc::Status status;
	Clock::time_point begun;
};

class Client {
public:
	Client(const char *address, size_t bytes)
	    : stub_(grpc::CreateChannel(address, grpc::InsecureChannelCredentials())),
	      text_(bytes, 'x'), slice_(text_), message_(&slice_, 1)
	{
	}

	int Run(size_t outstanding, double seconds)
	{
		std::vector<Call> calls(outstanding);
		Clock::time_point begun = Clock::now();
		Clock::time_point end = begun + std::chrono::duration_cast<Clock::duration>(
						    std::chrono::duration<double>(seconds));
		size_t open = 0;

		for (Call &call : calls) {
			Begin(&call);
			open++;
		}
		void *tag;
		bool ok;
		while (open > 0 && queue_.Next(&tag, &ok)) {
			Call *call = static_cast<Call *>(tag);
			Clock::time_point now = Clock::now();

			if (!Good(*call))
				return 1;
			took_.push_back(std::chrono::duration<double, std::micro>(now - call->begun).count());
			if (now < end)
				Begin(call);
			else
				open--;
		}
		double all = std::chrono::duration<double>(Clock::now() - begun).count();
		std::nth_element(took_.begin(), took_.begin() + took_.size() / 2, took_.end());
		std::printf("%.1f calls/s, p50 %.1f us\n", static_cast<double>(took_.size()) / all,
			    took_[took_.size() / 2]);
		return 0;
	}

private:
	void Begin(Call *call)
	{
		call->reader.reset();
		call->context = std::make_unique<grpc::ClientContext>();
		call->context->set_wait_for_ready(true);
		call->context->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
		call->begun = Clock::now();
		call->reader =
		    stub_.PrepareUnaryCall(call->context.get(), "/bench.Echo/Echo", message_, &queue_);
		call->reader->StartCall();
		call->reader->Finish(&call->answer, &call->status, call);
	}

	bool Good(Call &call)
	{
		grpc::Slice one;

		if (!call.status.ok())
			std::fprintf(stderr, "grpcecho: %d %s\n", call.status.error_code(),
				     call.status.error_message().c_str());
		else if (!call.answer.DumpToSingleSlice(&one).ok() || one.size() != text_.size() ||
			 std::memcmp(one.begin(), text_.data(), one.size()) != 0)
			std::fprintf(stderr, "grpcecho: the answer is not what was sent\n");
		else
			return true;
		return false;
	}

	grpc::GenericStub stub_;
	grpc::CompletionQueue queue_;
	std::string text_;
	grpc::Slice slice_;
	grpc::ByteBuffer message_;
	std::vector<double> took_;
};

} // namespace

int main(int argc, char **argv)
{
	if (argc == 3 && std::strcmp(argv[1], "server") == 0)
		return Serve(argv[2]);
	if (argc == 6 && std::strcmp(argv[1], "client") == 0 && std::atoi(argv[3]) > 0)
		return Client(argv[2], static_cast<size_t>(std::atoi(argv[4])))
		    .Run(static_cast<size_t>(std::atoi(argv[3])), std::atof(argv[5]));
	std::fprintf(stderr, "usage: grpcecho server HOST:PORT | client HOST:PORT OUTSTANDING BYTES SECONDS\n");
	return 2;
}
