# An endpoint for OMS webhooks: verify, store, answer, then process.
#
#   bundle install
#   WEBHOOK_SECRET=whsec_... bundle exec puma --bind tcp://127.0.0.1:8000

require "digest/sha2" # not only "digest", which loads SHA256 at its first use: two threads at once would fail
require "fileutils"
require "json"
require "standardwebhooks"

class Inbox
  def initialize(directory)
    @directory = directory
    FileUtils.mkdir_p(directory)
    @something_came = Thread::Queue.new
  end

  # Write a webhook to disk, once. A copy of it writes the same bytes to the same file, which does no harm.
  def keep(webhook_id, body)
    path = File.join(@directory, Digest::SHA256.hexdigest(webhook_id))
    part = "#{path}.#{Thread.current.object_id}"
    File.open(part, "wb") do |file|
      file.write(body)
      file.fsync
    end
    File.rename(part, "#{path}.json")
    @something_came << true
  end

  # Work on all that has no mark yet, also on what came before the last crash.
  def work
    loop do
      @something_came.clear
      Dir.glob(File.join(@directory, "*.json")).sort_by { |path| File.mtime(path) }.each do |path|
        mark = path.delete_suffix(".json") + ".done"
        next if File.exist?(mark)

        begin
          handle(JSON.parse(File.read(path, encoding: "UTF-8")))
          FileUtils.touch(mark)
        rescue StandardError => error
          warn "#{path} could not be handled; it is tried again with the next webhook: #{error.message}"
        end
      end
      @something_came.pop
    end
  end

  # Yours: here is time for what takes long.
  def handle(event)
    sleep Float(ENV.fetch("WORK_SECONDS", "0"))
    $stdout.puts "handled #{event.fetch("id")} #{event.fetch("event_name")}"
    $stdout.flush
  end
end

webhook = StandardWebhooks::Webhook.new(ENV.fetch("WEBHOOK_SECRET"))
inbox = Inbox.new(ENV.fetch("INBOX", "inbox"))
Thread.new { inbox.work }

run lambda { |env|
  next [404, {}, []] unless env["PATH_INFO"] == "/webhooks"
  next [405, { "allow" => "POST" }, []] unless env["REQUEST_METHOD"] == "POST"

  # The bytes as they came: parsed and written again, they would not fit the signature.
  body = env["rack.input"].read.force_encoding(Encoding::UTF_8)
  headers = %w[webhook-id webhook-timestamp webhook-signature].to_h do |name|
    [name, env["HTTP_#{name.upcase.tr("-", "_")}"]]
  end
  begin
    webhook.verify(body, headers)
  rescue StandardWebhooks::WebhookVerificationError
    next [401, {}, []]
  end
  inbox.keep(headers["webhook-id"], body)
  [204, {}, []]
}
