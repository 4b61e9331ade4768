#!/bin/bash
# Java: HttpServer with a pool of threads and HttpClient, NIO channels with a Selector, and blocking sockets, each a
# program of one file.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs java javac

cat >"$WORK/Server.java" <<'END_JAVA'
import com.sun.net.httpserver.*;
import java.io.*;
import java.net.*;
import java.nio.ByteBuffer;
import java.nio.channels.*;
import java.security.MessageDigest;
import java.util.concurrent.*;

public class Server {
    static String hex(byte[] all) throws Exception {
        StringBuilder out = new StringBuilder();
        for (byte b : MessageDigest.getInstance("SHA-256").digest(all)) out.append(String.format("%02x", b));
        return out.toString();
    }

    static void http(int port) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 50);
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.createContext("/", exchange -> {
            try {
                byte[] body = exchange.getRequestBody().readAllBytes();
                byte[] answer = (hex(body) + "w".repeat(body.length)).getBytes();
                exchange.sendResponseHeaders(200, answer.length);
                exchange.getResponseBody().write(answer);
            } catch (Exception e) {
                throw new IOException(e);
            } finally {
                exchange.close();
            }
        });
        server.start();
    }

    /* One thread, many channels: echoes until the end. */
    static void nio(int port) throws Exception {
        Selector selector = Selector.open();
        ServerSocketChannel listener = ServerSocketChannel.open();
        listener.bind(new InetSocketAddress("127.0.0.1", port));
        listener.configureBlocking(false);
        listener.register(selector, SelectionKey.OP_ACCEPT);
        while (true) {
            selector.select();
            for (SelectionKey key : selector.selectedKeys()) {
                if (key.isAcceptable()) {
                    SocketChannel channel = listener.accept();
                    if (channel == null) continue;
                    channel.configureBlocking(false);
                    channel.register(selector, SelectionKey.OP_READ, ByteBuffer.allocateDirect(65536));
                    continue;
                }
                SocketChannel channel = (SocketChannel) key.channel();
                ByteBuffer buffer = (ByteBuffer) key.attachment();
                if (key.isReadable() && channel.read(buffer) < 0) {
                    channel.close();
                    continue;
                }
                buffer.flip();
                channel.write(buffer);
                key.interestOps(buffer.hasRemaining() ? SelectionKey.OP_WRITE : SelectionKey.OP_READ);
                buffer.compact();
            }
            selector.selectedKeys().clear();
        }
    }

    static void blocking(int port) throws Exception {
        ServerSocket listener = new ServerSocket(port, 50, InetAddress.getByName("127.0.0.1"));
        while (true) {
            Socket socket = listener.accept();
            new Thread(() -> {
                try (socket) {
                    byte[] all = socket.getInputStream().readAllBytes();
                    socket.getOutputStream().write(hex(all).getBytes());
                } catch (Exception e) {
                    e.printStackTrace();
                }
            }).start();
        }
    }

    public static void main(String[] args) throws Exception {
        Thread nio = new Thread(() -> {
            try {
                nio(Integer.parseInt(args[1]));
            } catch (Exception e) {
                e.printStackTrace();
                System.exit(1);
            }
        });
        nio.start();
        http(Integer.parseInt(args[0]));
        blocking(Integer.parseInt(args[2]));
    }
}
END_JAVA
cat >"$WORK/Client.java" <<'END_JAVA'
import java.io.*;
import java.net.*;
import java.net.http.*;
import java.util.*;
import java.util.concurrent.*;

public class Client {
    static byte[] body(int n) {
        byte[] out = new byte[20000 + n * 1000];
        new Random(n).nextBytes(out);
        return out;
    }

    static String http(String base) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        List<CompletableFuture<String>> answers = new ArrayList<>();
        for (int n = 0; n < 40; n++)
            answers.add(client.sendAsync(HttpRequest.newBuilder(URI.create(base))
                    .POST(HttpRequest.BodyPublishers.ofByteArray(body(n))).build(),
                    HttpResponse.BodyHandlers.ofString()).thenApply(r -> r.statusCode() + r.body()));
        StringBuilder all = new StringBuilder();
        for (CompletableFuture<String> answer : answers) all.append(answer.get());
        HttpURLConnection old = (HttpURLConnection) new URL(base).openConnection();
        old.setConnectTimeout(5000);
        old.setReadTimeout(20000);
        return Server.hex(all.toString().getBytes()) + " " + old.getInputStream().readAllBytes().length;
    }

    static String sockets(String host, int port, boolean echo) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(8);
        List<Future<String>> answers = new ArrayList<>();
        for (int n = 0; n < 30; n++) {
            byte[] mine = body(n * 20);
            answers.add(pool.submit(() -> {
                try (Socket socket = new Socket()) {
                    socket.connect(new InetSocketAddress(host, port), 5000);
                    socket.setSoTimeout(20000);
                    Thread sender = new Thread(() -> {
                        try {
                            socket.getOutputStream().write(mine);
                            if (!echo) socket.shutdownOutput();
                        } catch (IOException e) {
                            e.printStackTrace();
                        }
                    });
                    sender.start();
                    InputStream in = socket.getInputStream();
                    byte[] got = echo ? in.readNBytes(mine.length) : in.readAllBytes();
                    sender.join();
                    return Server.hex(got);
                }
            }));
        }
        StringBuilder all = new StringBuilder();
        for (Future<String> answer : answers) all.append(answer.get());
        pool.shutdown();
        return Server.hex(all.toString().getBytes());
    }

    public static void main(String[] args) throws Exception {
        int port = Integer.parseInt(args[2]);
        switch (args[0]) {
        case "http" -> System.out.println(http("http://" + args[1] + ":" + port + "/"));
        default -> System.out.println(sockets(args[1], port, args[0].equals("nio")));
        }
        System.exit(0);
    }
}
END_JAVA
javac -d "$WORK/classes" "$WORK/Server.java" "$WORK/Client.java" 2>"$WORK/javac.log" || die javac "$(cat "$WORK/javac.log")"
JAVA=(java -Xshare:auto -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$WORK/classes")
app http
app nio 7
app blocking 9
http_server() {
	case $FLAVOUR in
	native) CMD=("${JAVA[@]}" Server "$1" "${NATIVE[nio]}" "${NATIVE[blocking]}") ;;
	flat) CMD=("${JAVA[@]}" Server "$1" "${FLAT[nio]}" "${FLAT[blocking]}") ;;
	esac
}
mesh
both http
for kind in nio blocking; do
	holds "$kind-listens" wait_for 10 listening "${NATIVE[$kind]}"
	holds "$kind-registered" wait_for 10 registered "${FLAT[$kind]}"
done
client() { run "${JAVA[@]}" Client "$3" "$1" "$2"; }
for kind in http nio blocking; do each $kind $kind client $kind; done
ends
